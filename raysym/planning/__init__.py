"""Planning: from a bound graph to a flat text plan for every worker."""

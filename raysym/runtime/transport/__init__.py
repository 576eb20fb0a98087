"""Transports: how arrays get from one worker to another, behind one small protocol."""

from raysym.runtime.transport.exchange import Exchange
from raysym.runtime.transport.port import (
    OBJECT_REF,
    OBJECT_STORE,
    SOCKET,
    TRANSPORTS,
    Address,
    Port,
    choose,
)
from raysym.runtime.transport.protocol import Channel, ChannelClosed, Key, PlainKey, Store

__all__ = [
    "OBJECT_REF",
    "OBJECT_STORE",
    "SOCKET",
    "TRANSPORTS",
    "Address",
    "Channel",
    "ChannelClosed",
    "Exchange",
    "Key",
    "PlainKey",
    "Port",
    "Store",
    "choose",
]

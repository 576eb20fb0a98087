"""Machine code of a team of threads: running a table, meeting, waiting for work (see team.py).

``meet(team)``: a barrier. ``alone(rows, n)``: a table on one thread. ``run(team, rows, n)``: on
all, called by the first. ``serve(team, part)``: what others do until a table of `STOP` rows.
"""

from __future__ import annotations

from raysym.kernels import llvm

SHARED_ROW, MEETS = 1, 2  # flags of a row: (function, arguments, flags)
LINE = 8  # numbers of a line of the cache
# Where numbers of a team lie, each that somebody waits for in a line of its own.
SLOTS = {"meet": 0, "parts": 1, "yield": 2, "write": 3, "read": 4,
         "arrived": 8, "turn": 16, "job": 24, "rows": 25, "count": 26, "done": 32}  # fmt: skip
HELPERS = 40  # a line for each thread: whether it sleeps, and the pipe that wakes it
_SPINS = 2000  # before others get the processor
_IDLE_SPINS = 4000  # before a thread sleeps: about 0.2 ms
STOP = -1  # a count of rows

# Lines of code that find a slot: ``SLOT(name)`` becomes an address of that name.
_CODE = """
PAUSE_DECLARED

define internal void @await(ptr %team, ptr %place, i64 %old) {
entry:
  br label %look
look:
  %i = phi i64 [0, %entry], [%j, %still], [%j, %long]
  %now = load atomic i64, ptr %place acquire, align 8
  %moved = icmp ne i64 %now, %old
  br i1 %moved, label %end, label %still
still:
  PAUSE
  %j = add i64 %i, 1
  %is_long = icmp ugt i64 %j, SPINS
  br i1 %is_long, label %long, label %look
long:
  SLOT(yield)
  %give_way = load ptr, ptr %yield
  %ignored = call i32 %give_way()
  br label %look
end:
  ret void
}

define void @meet(ptr %team) {
  SLOT(arrived)
  SLOT(turn)
  SLOT(parts)
  %all = load i64, ptr %parts
  %now = load atomic i64, ptr %turn monotonic, align 8
  %before = atomicrmw add ptr %arrived, i64 1 acq_rel
  %count = add i64 %before, 1
  %is_last = icmp eq i64 %count, %all
  br i1 %is_last, label %last, label %wait
last:
  store atomic i64 0, ptr %arrived monotonic, align 8
  %next = add i64 %now, 1
  store atomic i64 %next, ptr %turn release, align 8
  ret void
wait:
  call void @await(ptr %team, ptr %turn, i64 %now)
  ret void
}

define void @alone(ptr %rows, i64 %n) {
  br label %head
head:
  %i = phi i64 [0, %0], [%j, %head]
  %at = mul i64 %i, 3
  %row = getelementptr ptr, ptr %rows, i64 %at
  %f = load ptr, ptr %row
  %second = getelementptr ptr, ptr %row, i64 1
  %args = load ptr, ptr %second
  call void %f(ptr %args)
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %n
  br i1 %more, label %head, label %end
end:
  ret void
}

define internal void @rows(ptr %team, i64 %part) {
entry:
  SLOT(rows)
  SLOT(count)
  %table = load ptr, ptr %rows
  %n = load i64, ptr %count
  %is_first = icmp eq i64 %part, 0
  br label %head
head:
  %i = phi i64 [0, %entry], [%j, %next]
  %at = mul i64 %i, 3
  %row = getelementptr ptr, ptr %table, i64 %at
  %f = load ptr, ptr %row
  %second = getelementptr ptr, ptr %row, i64 1
  %args = load ptr, ptr %second
  %third = getelementptr ptr, ptr %row, i64 2
  %flags = load i64, ptr %third
  %meeting = and i64 %flags, 2
  %meets = icmp ne i64 %meeting, 0
  br i1 %meets, label %together, label %begin
together:
  call void @meet(ptr %team)
  br label %begin
begin:
  %sharing = and i64 %flags, 1
  %is_shared = icmp ne i64 %sharing, 0
  br i1 %is_shared, label %share, label %single
share:
  call void %f(ptr %args, i64 %part, ptr %team)
  br label %next
single:
  br i1 %is_first, label %mine, label %next
mine:
  call void %f(ptr %args)
  br label %next
next:
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %n
  br i1 %more, label %head, label %end
end:
  ret void
}

define void @run(ptr %team, ptr %table, i64 %n) {
entry:
  SLOT(rows)
  SLOT(count)
  SLOT(job)
  SLOT(done)
  SLOT(parts)
  store ptr %table, ptr %rows
  store i64 %n, ptr %count
  store atomic i64 0, ptr %done monotonic, align 8
  %ignored = atomicrmw add ptr %job, i64 1 seq_cst
  %all = load i64, ptr %parts
  br label %wake
wake:
  %p = phi i64 [1, %entry], [%q, %awake]
  %offset = mul i64 %p, 8
  %line = add i64 %offset, HELPERS
  %sleeper = getelementptr i64, ptr %team, i64 %line
  %slept = atomicrmw xchg ptr %sleeper, i64 0 seq_cst
  %is_asleep = icmp ne i64 %slept, 0
  br i1 %is_asleep, label %send, label %awake
send:
  SLOT(write)
  %writes = load ptr, ptr %write
  %out = getelementptr i64, ptr %sleeper, i64 2
  %fd64 = load i64, ptr %out
  %fd = trunc i64 %fd64 to i32
  %written = call i64 %writes(i32 %fd, ptr %team, i64 1)
  br label %awake
awake:
  %q = add i64 %p, 1
  %more = icmp slt i64 %q, %all
  br i1 %more, label %wake, label %work
work:
  %stops = icmp slt i64 %n, 0
  br i1 %stops, label %end, label %start
start:
  call void @rows(ptr %team, i64 0)
  br label %finish
finish:
  %others = sub i64 %all, 1
  %ended = load atomic i64, ptr %done acquire, align 8
  %is_done = icmp eq i64 %ended, %others
  br i1 %is_done, label %end, label %join
join:
  call void @await(ptr %team, ptr %done, i64 %ended)
  br label %finish
end:
  ret void
}

define void @serve(ptr %team, i64 %part) {
entry:
  SLOT(job)
  SLOT(done)
  SLOT(count)
  SLOT(read)
  %offset = mul i64 %part, 8
  %line = add i64 %offset, HELPERS
  %sleeper = getelementptr i64, ptr %team, i64 %line
  %got = alloca i64
  br label %idle
idle:
  %seen = phi i64 [0, %entry], [%now, %worked], [%seen, %woken]
  br label %look
look:
  %i = phi i64 [0, %idle], [%j, %still]
  %now = load atomic i64, ptr %job acquire, align 8
  %moved = icmp ne i64 %now, %seen
  br i1 %moved, label %work, label %still
still:
  PAUSE
  %j = add i64 %i, 1
  %is_long = icmp ugt i64 %j, IDLE
  br i1 %is_long, label %tired, label %look
tired:
  %a = atomicrmw xchg ptr %sleeper, i64 1 seq_cst
  %again = load atomic i64, ptr %job seq_cst, align 8
  %late = icmp ne i64 %again, %seen
  br i1 %late, label %stay, label %sleep
stay:
  %b = atomicrmw xchg ptr %sleeper, i64 0 seq_cst
  %is_mine = icmp eq i64 %b, 1
  br i1 %is_mine, label %woken, label %sleep
sleep:
  %reads = load ptr, ptr %read
  %in = getelementptr i64, ptr %sleeper, i64 1
  %fd64 = load i64, ptr %in
  %fd = trunc i64 %fd64 to i32
  %length = call i64 %reads(i32 %fd, ptr %got, i64 1)
  %came = icmp eq i64 %length, 1
  br i1 %came, label %woken, label %sleep
woken:
  br label %idle
work:
  %n = load i64, ptr %count
  %stops = icmp slt i64 %n, 0
  br i1 %stops, label %end, label %start
start:
  call void @rows(ptr %team, i64 %part)
  %ignored = atomicrmw add ptr %done, i64 1 release
  br label %worked
worked:
  br label %idle
end:
  ret void
}
"""


def team_text() -> str:
    """The code for this host."""
    text = _CODE
    for name, slot in SLOTS.items():
        line = f"%{name} = getelementptr i64, ptr %team, i64 {slot}"
        text = text.replace(f"SLOT({name})", line)
    is_x86 = "x86_64" in llvm.machine().triple
    declared = "declare void @llvm.x86.sse2.pause()" if is_x86 else ""
    text = text.replace("PAUSE_DECLARED", declared)
    text = text.replace("PAUSE", "call void @llvm.x86.sse2.pause()" if is_x86 else "")
    numbers = {"IDLE": _IDLE_SPINS, "SPINS": _SPINS, "HELPERS": HELPERS}
    for word, number in numbers.items():
        text = text.replace(word, str(number))
    return text

"""A process that writes to files what it writes to its streams, and ends as it is told."""
import os, random, subprocess, sys, time
folder, number, seed, kind, end = sys.argv[1:]
chance = random.Random(int(seed))
with open(f"{folder}/{number}.runs", "a") as runs:
    runs.write("run\n")
files = [open(f"{folder}/{number}.{stream}", "wb", 0) for stream in (1, 2)]

def put(stream, data):
    files[stream - 1].write(data)
    while data:
        data = data[os.write(stream, data):]

def lines(count, width, pause):
    for line in range(count):
        stream = 1 if chance.random() < 0.7 else 2
        put(stream, f"{line} {'x' * chance.randrange(width)}\n".encode())
        if pause:
            time.sleep(chance.random() * pause)

if kind == "slow":
    lines(chance.randrange(10, 80), 60, 0.03)
elif kind == "quick":
    lines(5, 60, 0)
elif kind == "flood":
    for _ in range(3):
        lines(40, 16000, 0)
        time.sleep(chance.random() * 0.3)
elif kind == "huge":
    for _ in range(4):
        lines(60, 16000, 0)
        time.sleep(chance.random() * 0.2)
elif kind == "family":
    null = subprocess.DEVNULL
    for apart in (True, False):
        subprocess.Popen(["sleep", "300"], start_new_session=apart, stdin=null, stdout=null, stderr=null)
    lines(chance.randrange(10, 50), 60, 0.03)
if end[0] == "s":
    os.kill(os.getpid(), int(end[1:]))
os._exit(int(end[1:]))

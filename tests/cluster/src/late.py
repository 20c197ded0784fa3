"""A device "late": what is routed into it comes out of it again after LEAST to MOST milliseconds, in order.

    late.py LEAST MOST
"""

import collections
import fcntl
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

least, most = (float(it) / 1000 for it in sys.argv[1:3])
device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", b"late", IFF_TUN | IFF_NO_PI))
waiting = collections.deque()
latest = 0.0
while True:
    now = time.monotonic()
    while waiting and waiting[0][0] <= now:
        os.write(device, waiting.popleft()[1])
    timeout = waiting[0][0] - now if waiting else None
    if not select.select([device], [], [], timeout)[0]:
        continue
    packet = os.read(device, 1 << 16)
    if packet[0] >> 4 != 4:
        continue
    # The order is kept, as on a link: a late one holds up those behind it.
    latest = max(latest, time.monotonic() + random.uniform(least, most))
    waiting.append((latest, packet))

"""The MTProto side of the box: an owner's own client meets the same world over TCP.

frames.py      TCP's full framing: length, sequence, CRC32
handshake.py   an authorization key, agreed by Diffie-Hellman under RSA
channel.py     encrypted messages of one authorization key, in and out
objects.py     the world's things as TL objects, seen by one person
accounts.py    who may sign in: phone, code, two-step password; what happened since which pts
faults.py      refusals, floods and lost connections on purpose
methods.py     the API's methods over the world
server.py      a loopback listener: connections, answers, updates, faults

It speaks Telethon's layer with Telethon's own TL classes: any Telethon client can sign in, unchanged.
"""

"""A Telegram in a box, for the demo and the tests; never imported by a real run.

world.py    people, chats, messages, polls: what happens, without any wire
wire.py     the world's things as the Bot API's JSON
botapi.py   the Bot API's methods over the world
server.py   HTTP on loopback: /bot<token>/<method>
page/       the same world as a messenger in a browser
mtproto/    the same world over MTProto, for an owner's own client
sample.py   the sample history, as a Telegram Desktop export
"""

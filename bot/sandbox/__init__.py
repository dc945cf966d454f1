"""A Telegram in a box, for the demo and the tests; never imported by a real run.

things.py   people, chats, messages, polls, and what happens to them
world.py    what people and bots do with them, without any wire
wire.py     the world's things as the Bot API's JSON
botapi.py   the Bot API's methods over the world
server.py   HTTP on loopback: /bot<token>/<method>
guest.py    an HTTP server inside somebody else's process
page/       the same world as a messenger in a browser
mtproto/    the same world over MTProto, for an owner's own client
sample.py   the sample history, as a Telegram Desktop export
"""

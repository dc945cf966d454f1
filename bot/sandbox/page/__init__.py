"""The world as a messenger in a browser: it shows what happens and lets its people act, and does nothing else.

view.py     the world's things as the page's JSON
acts.py     what a person can do on the page
routes.py   HTTP: the page, its event stream, its acts, and who may reach them
static/     the page itself: no framework, no build, nothing loaded from elsewhere
"""

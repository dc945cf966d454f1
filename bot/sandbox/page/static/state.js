// The world as the server tells it, and what one person sees of it. No DOM here.

export const world = {
  people: new Map(), // id → {id, name, username, is_bot, is_extra}
  chats: new Map(), // id → {id, kind, title, members}
  messages: new Map(), // chat id → Map(message id → message), oldest first
  drafts: new Map(), // "person/chat" → text
  typing: new Map(), // "person/chat" → {from, chat, text, until}
  connections: new Map(), // person → {is_enabled, can_reply}
  commands: {}, // scope → [{command, description}]
  started: new Set(), // people who have written to the bot
  since: 0,
};
const seen = new Map(); // "person/chat" → newest message id that he has looked at
const TYPING_SECONDS = 6, STREAM_SECONDS = 30;

const key = (person, chat) => `${person}/${chat}`;

/** Take in one thing that the server told. Returns the id of the chat it concerns, or null. */
export function apply(told) {
  switch (told.kind) {
    case 'world':
      world.people = new Map(told.people.map(p => [p.id, p]));
      world.chats = new Map(told.chats.map(c => [c.id, c]));
      world.messages = new Map(told.chats.map(c => [c.id, new Map()]));
      for (const m of told.messages) world.messages.get(m.chat).set(m.id, m);
      world.drafts = new Map(told.drafts.map(d => [key(d.user, d.chat), d.text]));
      world.connections = new Map(told.connections.map(c => [c.user, c]));
      world.typing.clear();
      world.commands = told.commands;
      world.started = new Set(told.started);
      world.since = told.since;
      return null;
    case 'message': {
      const m = told.message;
      if (told.chat) world.chats.set(m.chat, told.chat);
      if (!world.messages.has(m.chat)) world.messages.set(m.chat, new Map());
      world.messages.get(m.chat).set(m.id, m);
      world.typing.delete(key(m.from, m.chat));
      if (m.chat === m.from) world.started.add(m.from);
      return m.chat;
    }
    case 'deleted':
      world.messages.get(told.chat)?.delete(told.id);
      return told.chat;
    case 'draft':
      world.drafts.set(key(told.user, told.chat), told.text);
      return told.chat;
    case 'typing': {
      const until = Date.now() + 1000 * (told.text ? STREAM_SECONDS : TYPING_SECONDS);
      world.typing.set(key(told.from, told.chat), { ...told, until });
      return told.chat;
    }
    case 'connection':
      world.connections.set(told.user, told);
      return null;
    case 'commands':
      world.commands[told.scope] = told.commands;
      return null;
  }
  return null;
}

/** Forget who has stopped typing; the chats where somebody had. */
export function calm() {
  const over = [...world.typing].filter(([, typing]) => typing.until < Date.now());
  for (const [name] of over) world.typing.delete(name);
  return over.map(([, typing]) => typing.chat);
}

/** Whom one can be on the page; the owner comes first. */
export const people = () => [...world.people.values()].filter(p => !p.is_bot && !p.is_extra);
export const bot = () => [...world.people.values()].find(p => p.is_bot && !p.is_extra);
export const history = chat => [...(world.messages.get(chat)?.values() ?? [])];
export const newest = chat => history(chat).at(-1);
export const nameOf = person => world.people.get(person)?.name ?? '';
export const draftOf = (me, chat) => world.drafts.get(key(me, chat)) ?? '';

/** Whom a chat is with, as `me` sees it: {name, face, person}; of a group there is no person. */
export function otherSide(chat, me) {
  const place = world.chats.get(chat);
  if (!place) return { name: '', face: 0, person: null };
  if (place.kind === 'group') return { name: place.title, face: 0, person: null };
  const id = place.kind === 'private' ? bot()?.id : place.members.find(m => m !== me) ?? me;
  return { name: nameOf(id), face: id, person: world.people.get(id) };
}

/** A person's chats, the one that was written in last first. */
export function chatsOf(me) {
  const last = chat => newest(chat.id)?.date ?? world.since;
  return [...world.chats.values()].filter(c => c.members.includes(me)).sort((a, b) => last(b) - last(a));
}

/** Others who type in a chat: [{from, text}]. */
export const typingIn = (chat, me) => [...world.typing.values()].filter(t => t.chat === chat && t.from !== me);

export function unread(me, chat) {
  const last = seen.get(key(me, chat)) ?? 0;
  const isNew = m => m.id > last && m.from !== me && m.date >= world.since;
  return history(chat).filter(isNew).length;
}

export function look(me, chat) {
  seen.set(key(me, chat), newest(chat)?.id ?? 0);
}

/** The commands that a bot offers a person in a chat. */
export function commandsFor(me, chat) {
  const group = world.chats.get(chat)?.kind === 'group';
  if (!group && world.chats.get(chat)?.kind !== 'private') return [];
  return (group ? world.commands.all_group_chats : world.commands[`chat:${me}`]) ?? world.commands.default ?? [];
}

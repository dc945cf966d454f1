// The open conversation: who it is with, its messages, and what can be done with them.

import { bot, commandsFor, history, nameOf, otherSide, people, typingIn, world } from './state.js';
import { brief, bubble, day, el, face, growing } from './bubbles.js';
import { answer, edit } from './compose.js';
import { keepFocus } from './side.js';
import { $, act, botChat, chat, go, me } from './wire.js';

const acts = {
  tap(message, button, node) {
    node.classList.add('waiting');
    act('tap', { message: message.id, data: button.callback_data }).catch(() => node.classList.remove('waiting'));
  },
  vote: (message, option) => act('vote', { message: message.id, option }).catch(() => {}),
  open(src) { $('viewer').firstElementChild.src = src; $('viewer').showModal(); },
  command: words => act('send', { text: words }).catch(() => {}),
  link(payload) {
    const place = botChat();
    act('send', { chat: place, text: `/start ${payload}` }).then(() => go(me, place), () => {});
  },
  menu: showActions,
};

export function showHead() {
  const place = world.chats.get(chat), side = otherSide(chat, me), lent = world.connections.get(me);
  $('face').replaceChildren(place ? face(side) : '');
  $('title').textContent = place ? side.name : 'likeme';
  const busy = typingIn(chat, me)[0];
  const about = !place ? 'Choose a chat' : place.kind === 'group'
    ? place.members.map(m => (m === me ? 'you' : nameOf(m).split(' ')[0])).join(', ') : side.person?.is_bot ? 'bot' : 'online';
  $('subtitle').textContent = document.body.classList.contains('offline') ? 'The demo is not there …'
    : busy ? (place.kind === 'group' ? `${nameOf(busy.from)} is typing …` : 'typing …') : about;
  $('subtitle').classList.toggle('typing', Boolean(busy));
  $('back').href = `#${me}`;
  $('lent').hidden = place?.kind !== 'private' || me !== people()[0]?.id;
  $('lent').firstElementChild.checked = Boolean(lent?.is_enabled);
  const fresh = place?.kind === 'private' && !world.started.has(me);
  $('compose').hidden = !place;
  $('line').hidden = fresh;
  $('start').hidden = !fresh;
  $('menu').hidden = commandsFor(me, chat).length === 0;
}

export function showLog() {
  const nodes = [];
  let before = null;
  for (const message of history(chat)) {
    if (!before || day(before.date) !== day(message.date)) {
      nodes.push(el('li', { class: 'day' }, el('span', {}, day(message.date))));
      before = null;
    }
    nodes.push(bubble(message, me, before, acts));
    before = message;
  }
  $('log').setAttribute('aria-live', 'off'); // what is already there is not news
  $('log').replaceChildren(...nodes);
  showGrowing();
  $('log').scrollTop = $('log').scrollHeight;
  requestAnimationFrame(() => $('log').setAttribute('aria-live', 'polite'));
}

/** A message that is new, or has changed. */
export function put(message) {
  const log = $('log'), low = isLow();
  const all = history(chat), before = all[all.findIndex(m => m.id === message.id) - 1];
  const old = log.querySelector(`[data-id="${message.id}"]`);
  const sameDay = before && day(before.date) === day(message.date);
  const fresh = bubble(message, me, sameDay ? before : null, acts);
  if (old) keepFocus(log, () => old.replaceWith(fresh));
  else {
    for (const node of log.querySelectorAll('.growing')) node.remove();
    if (!sameDay) log.append(el('li', { class: 'day' }, el('span', {}, day(message.date))));
    fresh.classList.add('new');
    log.append(fresh);
    if (message.asks_reply !== null && message.from !== me) answer(message);
  }
  if (low || (!old && message.from === me)) log.scrollTop = log.scrollHeight;
}

/** The log stays at its end when it becomes lower: a draft has come to the input line, a keyboard has opened. */
export function holdEnd() {
  let low = true;
  $('log').addEventListener('scroll', () => { low = isLow(); });
  new ResizeObserver(() => { if (low) $('log').scrollTop = $('log').scrollHeight; }).observe($('log'));
}

const isLow = () => $('log').scrollHeight - $('log').scrollTop - $('log').clientHeight < 80;

export function showGrowing() {
  const low = isLow();
  for (const node of $('log').querySelectorAll('.growing')) node.remove();
  $('log').append(...typingIn(chat, me).map(typing => growing(typing, chat)));
  if (low) $('log').scrollTop = $('log').scrollHeight;
}

function showActions(message, anchor) {
  const own = message.from === me, item = (label, does) =>
    el('button', { role: 'menuitem', onclick: () => { $('actions').hidePopover(); does(); } }, label);
  $('actions').replaceChildren(...[
    item('Reply', () => answer(message)),
    chat !== botChat() && message.text ? item(`Forward to ${bot()?.name}`, () => {
      const place = botChat();
      act('forward', { message: message.id }).then(() => go(me, place), () => {});
    }) : null,
    message.text ? item('Copy', () => navigator.clipboard?.writeText(message.text)) : null,
    own && message.text ? item('Edit', () => edit(message)) : null,
    own ? item('Delete', () => act('delete', { message: message.id }).catch(() => {})) : null,
  ].filter(Boolean));
  $('actions').showPopover();
  const at = anchor.getBoundingClientRect(), size = $('actions').getBoundingClientRect();
  $('actions').style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
  $('actions').style.top = `${Math.max(8, Math.min(at.bottom, innerHeight - size.height - 8))}px`;
  $('actions').firstElementChild.focus();
}

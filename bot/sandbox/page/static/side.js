// The side: the people whom one can be, and the chats of the one who one is.

import { chatsOf, draftOf, nameOf, newest, otherSide, people, typingIn, unread } from './state.js';
import { brief, clock, day, el, face } from './bubbles.js';
import { $, chat, go, me } from './wire.js';

export function showPeople() {
  const shown = people().map(person => {
    const waiting = chatsOf(person.id).reduce((sum, c) => sum + unread(person.id, c.id), 0);
    const input = el('input', { type: 'radio', name: 'me', value: person.id, onchange: () => go(person.id) });
    input.checked = person.id === me;
    return el('label', { title: person.name }, input, face({ name: person.name, face: person.id }),
      el('span', {}, person.name.split(' ')[0]),
      waiting ? el('span', { class: 'badge', 'aria-label': `${waiting} unread` }, waiting) : null);
  });
  keepFocus($('people'), () => $('people').replaceChildren($('people').firstElementChild, ...shown));
}

export function showChats() {
  const links = chatsOf(me).map(c => {
    const side = otherSide(c.id, me), last = newest(c.id), count = unread(me, c.id);
    return el('a', { href: `#${me}/${c.id}`, 'aria-current': c.id === chat ? 'page' : null }, face(side),
      el('b', {}, side.name), el('time', {}, last ? (day(last.date) === 'Today' ? clock(last.date) : day(last.date).replace(/(\d+ \w{3})\w*/, '$1')) : ''),
      preview(c, last), count ? el('span', { class: 'badge', 'aria-label': `${count} unread` }, count) : null);
  });
  keepFocus($('chats'), () => $('chats').replaceChildren(...links));
}

function preview(place, last) {
  const words = place.id === chat ? '' : draftOf(me, place.id);
  if (typingIn(place.id, me).length) return el('span', { class: 'preview typing' }, 'typing …');
  if (words) return el('span', { class: 'preview' }, el('em', {}, 'Draft: '), words);
  if (!last) return el('span', { class: 'preview' }, 'No messages yet');
  const who = last.from === me ? 'You: ' : place.kind === 'group' ? `${nameOf(last.from).split(' ')[0]}: ` : '';
  return el('span', { class: 'preview' }, who, brief(last));
}

/** Replace a list's children and leave the focus on the child where it was. */
export function keepFocus(list, replace) {
  const all = () => [...list.querySelectorAll('a, input, button')];
  const at = all().indexOf(document.activeElement);
  replace();
  if (at >= 0) all()[at]?.focus({ preventScroll: true });
}

// The wire to the server, and who acts over it: the person that the page is, and his open chat.

import { chatsOf } from './state.js';

export const $ = id => document.getElementById(id);
export const NARROW = matchMedia('(max-width: 700px)');
export let me = 0, chat = 0; // 0: none

export function be(person, place) {
  [me, chat] = [person, place];
}

let queue = Promise.resolve(); // one act after the other, as they were done

export function act(what, more = {}) {
  const body = JSON.stringify({ as: me, chat: chat, do: what, ...more });
  const sent = queue.then(async () => {
    const answer = await fetch('act', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
    if (!answer.ok) throw new Error((await answer.json()).error);
  });
  queue = sent.catch(() => {});
  return sent.catch(error => { toast(error.message); throw error; });
}

/** Show a person's chat, or his list of chats. The address holds both: the browser's own «back» works. */
export const go = (person, place) => { location.hash = place ? `${person}/${place}` : String(person); };

/** The bot's own chat with me. */
export const botChat = () => chatsOf(me).find(c => c.kind === 'private')?.id;

let passing = 0;
export function toast(text) {
  $('toast').textContent = text;
  clearTimeout(passing);
  passing = setTimeout(() => { $('toast').textContent = ''; }, 4000);
}

// The page: what is heard is shown, the address (#person/chat) says who I am and where, keys and taps act.

import { apply, calm, chatsOf, history, look, people, world } from './state.js';
import { arrive, cancel, chooseCommand, edit, isBusy, leave, save, send, suggest, take, typed, write } from './compose.js';
import { showChats, showPeople } from './side.js';
import { holdEnd, put, showGrowing, showHead, showLog } from './talk.js';
import { $, NARROW, act, be, chat, go, me, toast } from './wire.js';

function listen() {
  const stream = new EventSource('events');
  stream.onmessage = event => heard(JSON.parse(event.data));
  stream.onopen = () => isThere(true);
  stream.onerror = () => isThere(false);
}

function isThere(there) {
  document.body.classList.toggle('offline', !there);
  showHead();
}

function heard(told) {
  if (told.kind === 'answer') {
    for (const waiting of document.querySelectorAll('.inline.waiting')) waiting.classList.remove('waiting');
    if (told.user === me && told.text) toast(told.text);
    return;
  }
  const where = apply(told);
  if (told.kind === 'world') return route();
  if (where === chat && chat) {
    if (told.kind === 'message') put(told.message);
    else if (told.kind === 'deleted') showLog();
    else if (told.kind === 'draft' && told.user === me) take(told.text);
    showGrowing();
    if (document.visibilityState === 'visible') look(me, chat);
  }
  showPeople();
  showChats();
  showHead();
}

// Where I am

function route() {
  const [wanted, place] = location.hash.slice(1).split('/').map(Number);
  const person = people().some(p => p.id === wanted) ? wanted : people()[0]?.id ?? 0;
  const mine = chatsOf(person);
  const first = NARROW.matches ? null : mine.find(c => c.kind === 'private') ?? mine[0];
  leave();
  be(person, (mine.find(c => c.id === place) ?? first)?.id ?? 0);
  if (chat) look(me, chat);
  document.body.classList.toggle('open', chat !== 0);
  showPeople();
  showChats();
  showHead();
  showLog();
  arrive();
}

/** Alt+↑ ↓: the chat above or below. */
function step(by) {
  const mine = chatsOf(me), at = mine.findIndex(c => c.id === chat);
  const next = mine[Math.max(0, Math.min(mine.length - 1, at + by))];
  if (next) go(me, next.id);
}

// Keys and taps

$('compose').addEventListener('submit', event => { event.preventDefault(); send(); });
$('words').addEventListener('input', typed);
$('words').addEventListener('keydown', event => {
  if (event.isComposing || chooseCommand(event)) return;
  const chosen = $('suggestions').hidden ? null : $('suggestions').querySelector('[aria-selected=true] b');
  if (event.key === 'Enter' && !event.shiftKey) {
    event.preventDefault();
    if (chosen) $('words').value = chosen.textContent;
    send();
  } else if (event.key === 'ArrowUp' && !event.altKey && $('words').value === '') {
    const last = history(chat).findLast(m => m.from === me && m.text);
    if (last) { event.preventDefault(); edit(last); }
  }
});
$('menu').addEventListener('click', () => { write('/'); suggest(); $('words').focus(); });
$('start').addEventListener('click', () => act('send', { text: '/start' }).then(() => $('words').focus(), () => {}));
$('drop').addEventListener('click', () => { cancel(); $('words').focus(); });
$('lent').firstElementChild.addEventListener('change', event =>
  act('connect', { is_enabled: event.target.checked, can_reply: event.target.checked }).catch(() => {}));
$('viewer').addEventListener('click', () => $('viewer').close());
for (const [list, items] of [['chats', 'a'], ['actions', 'button']]) {
  $(list).addEventListener('keydown', event => {
    const all = [...$(list).querySelectorAll(items)], at = all.indexOf(document.activeElement);
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined || event.altKey) return;
    event.preventDefault();
    all[Math.max(0, Math.min(all.length - 1, to))]?.focus();
  });
}
$('chats').addEventListener('click', event => { if (event.detail && event.target.closest('a')) setTimeout(() => $('words').focus()); });
addEventListener('keydown', event => {
  if (event.altKey && ['ArrowUp', 'ArrowDown'].includes(event.key)) {
    event.preventDefault();
    step(event.key === 'ArrowDown' ? 1 : -1);
  } else if (event.key === 'Escape' && isBusy()) cancel();
});
addEventListener('hashchange', route);
addEventListener('pagehide', save);
setInterval(() => { if (calm().length) { showGrowing(); showChats(); showHead(); } }, 1000);
holdEnd();
listen();

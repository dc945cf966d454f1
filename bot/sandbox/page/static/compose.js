// The input line: what is typed is a draft on all devices until it is sent; answers, edits, the bot's commands.

import { commandsFor, draftOf, nameOf, newest, otherSide } from './state.js';
import { brief, el } from './bubbles.js';
import { $, NARROW, act, chat, me } from './wire.js';

const SAVE_MS = 500, TYPE_MS = 3000;
let answering = null, editing = null; // messages
let synced = ''; // the line as all devices know it
let saving = 0, typedAt = 0;
const typedHere = new Set(); // "person/chat" whose draft was typed on this page

export const isBusy = () => answering !== null || editing !== null;

export function arrive() {
  const last = newest(chat);
  synced = draftOf(me, chat);
  write(synced);
  if (last && last.asks_reply !== null && last.from !== me) answer(last);
  if (chat && !NARROW.matches && !$('side').contains(document.activeElement)) $('words').focus();
}

/** Before another chat is shown: what was typed here is kept as a draft. */
export function leave() {
  save();
  answering = editing = null;
  showContext();
}

export function write(text) {
  $('words').value = text;
  grow();
  $('cloud').hidden = !text || text !== synced || editing !== null || typedHere.has(`${me}/${chat}`);
}

/** The input line has changed on another device, or by the bot: mine follows unless I am typing. */
export function take(text) {
  const mine = $('words').value;
  const idle = !editing && mine === synced;
  synced = text;
  if (idle && mine !== text) {
    typedHere.delete(`${me}/${chat}`);
    write(text);
  }
}

export function save() {
  clearTimeout(saving);
  saving = 0;
  if (!editing && chat && $('words').value !== synced) act('draft', { text: $('words').value }).catch(() => {});
}

function grow() {
  const words = $('words');
  words.style.height = 'auto';
  if (words.scrollHeight) words.style.height = `${Math.min(words.scrollHeight, 180)}px`; // 0: not shown yet
  $('send').classList.toggle('ready', words.value.trim() !== '');
}

export function typed() {
  grow();
  $('cloud').hidden = true;
  typedHere.add(`${me}/${chat}`);
  suggest();
  clearTimeout(saving);
  saving = setTimeout(save, SAVE_MS);
  if ($('words').value && Date.now() - typedAt > TYPE_MS && !otherSide(chat, me).person?.is_bot) {
    typedAt = Date.now();
    act('type').catch(() => {});
  }
}

export function send() {
  const text = $('words').value.trim();
  if (!text || !chat) return;
  clearTimeout(saving);
  saving = 0;
  const sent = editing ? act('edit', { message: editing.id, text }) : act('send', { text, reply_to: answering?.id ?? null });
  sent.catch(() => write(text));
  answering = editing = null;
  typedHere.delete(`${me}/${chat}`);
  showContext();
  write('');
  suggest();
}

export function answer(message) {
  [answering, editing] = [message, null];
  showContext();
  $('words').focus();
}

export function edit(message) {
  [answering, editing] = [null, message];
  showContext();
  write(message.text);
  $('words').focus();
}

function showContext() {
  const about = editing ?? answering;
  $('context').hidden = !about;
  $('about').replaceChildren(...(about ? [el('b', {}, editing ? 'Edit message' : `Reply to ${nameOf(about.from)}`), el('span', {}, brief(about))] : []));
  $('words').placeholder = answering?.asks_reply || 'Message';
}

export function cancel() {
  const wasEditing = editing !== null;
  answering = editing = null;
  showContext();
  if (wasEditing) write(draftOf(me, chat));
}

// Commands of the bot, offered while a «/» is typed

export function suggest() {
  const words = $('words').value;
  const fitting = /^\/\w*$/.test(words) ? commandsFor(me, chat).filter(c => `/${c.command}`.startsWith(words)) : [];
  $('suggestions').hidden = fitting.length === 0;
  $('suggestions').replaceChildren(...fitting.map((c, i) => el('li', { role: 'option', 'aria-selected': String(i === 0),
    onclick: () => { write(`/${c.command}`); send(); } }, el('b', {}, `/${c.command}`), ' ', c.description)));
}

/** Keys that belong to the open list of commands. Returns whether this was one. */
export function chooseCommand(event) {
  const all = [...$('suggestions').children], at = all.findIndex(o => o.ariaSelected === 'true');
  if ($('suggestions').hidden || !['ArrowUp', 'ArrowDown', 'Tab', 'Escape'].includes(event.key)) return false;
  event.preventDefault();
  if (event.key === 'Escape') $('suggestions').hidden = true;
  else if (event.key === 'Tab') { write(`${all[at].querySelector('b').textContent} `); suggest(); }
  else {
    const next = (at + (event.key === 'ArrowDown' ? 1 : -1) + all.length) % all.length;
    all.forEach((option, i) => { option.ariaSelected = String(i === next); });
    all[next].scrollIntoView({ block: 'nearest' });
  }
  return true;
}

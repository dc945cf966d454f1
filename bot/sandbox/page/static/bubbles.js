// Messages as DOM nodes. Words only ever become text nodes: no message can bring markup of its own.

import { bot, nameOf, otherSide, world } from './state.js';

/** An element: el('button', {class: 'x', onclick: f}, 'words', node, null). */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false));
  return node;
}

/** One of seven colours for a person, by his place in the world; groups have the first. */
const hue = person => Math.max(0, [...world.people.keys()].indexOf(person)) % 7;

/** The round picture of a person or group: initials on one of seven colours; the bot has its own. */
export function face(side) {
  if (side.face === bot()?.id) return el('img', { class: 'face', src: 'icon.svg', alt: '' });
  const words = side.name.replace(/\(.*\)/, '').trim().split(/\s+/);
  const initials = words.slice(0, 2).map(word => [...word][0] ?? '').join('').toUpperCase();
  return el('span', { class: `face hue${hue(side.face)}`, 'aria-hidden': 'true' }, initials);
}

export const clock = seconds =>
  new Date(1000 * seconds).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hour12: false });

export function day(seconds) {
  const date = new Date(1000 * seconds), today = new Date();
  if (date.toDateString() === today.toDateString()) return 'Today';
  const year = date.getFullYear() === today.getFullYear() ? {} : { year: 'numeric' };
  return date.toLocaleDateString('en-GB', { day: 'numeric', month: 'long', ...year });
}

/** A message. `acts`: what its parts do: {tap, vote, open, command, link, menu}. */
export function bubble(message, me, before, acts) {
  const own = message.from === me;
  const group = world.chats.get(message.chat)?.kind === 'group';
  const joined = before && before.from === message.from && message.date - before.date < 300 && !before.buttons.length;
  const jumbo = /^(\p{Extended_Pictographic}\uFE0F?){1,3}$/u.test(message.text);
  return el('li', { class: `row ${own ? 'own' : ''} ${joined ? 'joined' : ''}`, 'data-id': message.id },
    el('div', { class: `bubble ${message.poll ? 'wide' : ''} ${jumbo ? 'jumbo' : ''}` },
      group && !own && !joined
        ? el('b', { class: `name hue${hue(message.from)}` }, nameOf(message.from))
        : el('span', { class: 'unseen' }, `${own ? 'You' : nameOf(message.from)}: `),
      message.forwarded && el('p', { class: 'forwarded' }, 'Forwarded from ',
        el('b', {}, nameOf(message.forwarded) || String(message.forwarded))),
      message.reply_to && quote(message),
      message.photo && picture(message, acts),
      message.poll ? poll(message, me, acts) : message.text && el('div', { class: 'text' }, rich(message, acts)),
      el('span', { class: 'meta' },
        message.business_bot && own ? `${nameOf(message.business_bot)} · ` : null,
        message.edited ? 'edited ' : null, clock(message.date), own ? ' ✓' : null),
      el('button', { class: 'more', 'aria-label': 'Actions for this message', 'aria-haspopup': 'menu',
        onclick: event => acts.menu(message, event.currentTarget) }, '⋯')),
    message.buttons.length ? el('div', { class: 'buttons' }, message.buttons.map(row => el('div', {}, row.map(button =>
      el('button', { class: 'inline', onclick: event => acts.tap(message, button, event.currentTarget) },
        button.text))))) : null);
}

/** What somebody's about to send: a bot's words as far as they are, or three dots. */
export function growing(typing, chat) {
  return el('li', { class: 'row growing', 'aria-hidden': 'true' },
    el('div', { class: 'bubble' },
      world.chats.get(chat)?.kind === 'group' ? el('b', { class: `name hue${hue(typing.from)}` }, nameOf(typing.from)) : null,
      typing.text ? el('div', { class: 'text' }, typing.text)
        : el('span', { class: 'dots' }, el('i'), el('i'), el('i'))));
}

function quote(message) {
  const asked = world.messages.get(message.chat)?.get(message.reply_to);
  return el('blockquote', { class: 'quote' }, el('b', {}, asked ? nameOf(asked.from) : 'A deleted message'),
    asked ? el('span', {}, brief(asked)) : null);
}

/** A message in one line. */
export function brief(message) {
  if (message.poll) return `📊 ${message.poll.question.replace(/\s+/g, ' ')}`;
  const words = message.text.replace(/\s+/g, ' ');
  return message.photo ? `🖼 ${words || 'Picture'}` : words;
}

function picture(message, acts) {
  const { file_id, width, height } = message.photo;
  const image = el('img', { src: `photo/${encodeURIComponent(file_id)}`, width, height, alt: 'Picture from the bot' });
  return el('button', { class: 'picture', 'aria-label': 'Enlarge the picture', onclick: () => acts.open(image.src) }, image);
}

function poll(message, me, acts) {
  const asked = message.poll;
  const all = new Set(asked.options.flatMap(option => option.voters));
  const done = all.has(me) || asked.is_closed;
  const kind = `${asked.is_anonymous ? 'Anonymous ' : ''}${asked.is_quiz ? 'Quiz' : 'Poll'}`;
  const votes = all.size === 1 ? '1 answer' : `${all.size || 'No'} answers`;
  return el('div', { class: 'poll' },
    el('p', { class: 'question' }, asked.question),
    el('p', { class: 'kind' }, asked.is_closed ? 'Final results' : kind),
    asked.options.map((option, index) => done ? result(asked, option, index, all.size, me)
      : el('button', { class: 'option', onclick: () => acts.vote(message, index) }, option.text)),
    done && asked.is_quiz ? verdict(asked, me) : null,
    el('p', { class: 'votes' }, votes));
}

function result(asked, option, index, total, me) {
  const share = total ? Math.round(100 * option.voters.length / total) : 0;
  const right = asked.correct.includes(index), mine = option.voters.includes(me);
  const state = asked.is_quiz && right ? 'right' : mine ? (asked.is_quiz ? 'wrong' : 'mine') : '';
  const names = asked.is_anonymous ? '' : option.voters.map(nameOf).join(', ');
  const said = [mine ? 'your answer' : '', state === 'right' ? 'the right answer' : ''].filter(Boolean).join(', ');
  return el('div', { class: `result ${state}` },
    el('span', { class: 'share' }, `${share} %`), el('span', {}, option.text),
    el('span', { class: 'unseen' }, said && ` (${said})`),
    el('progress', { max: 100, value: share, 'aria-label': `${share} %` }),
    names ? el('span', { class: 'voters' }, names) : null);
}

function verdict(asked, me) {
  const mine = asked.options.findIndex(option => option.voters.includes(me));
  const line = mine < 0 ? '' : asked.correct.includes(mine) ? 'Right! ' : 'Not this time. ';
  return el('p', { class: 'explanation' }, el('b', {}, line), asked.explanation);
}

const MARKS = { bold: 'b', italic: 'i', underline: 'u', strikethrough: 's', code: 'code', pre: 'pre', blockquote: 'blockquote' };

/** The words with their entities; offsets are UTF-16 on both sides. */
function rich(message, acts) {
  const { text } = message;
  const spans = [...message.entities.filter(e => MARKS[e.type]), ...links(message)];
  const cuts = new Set([0, text.length, ...spans.flatMap(s => [s.offset, s.offset + s.length])]);
  const edges = [...cuts].filter(cut => cut >= 0 && cut <= text.length).sort((a, b) => a - b);
  return edges.slice(1).map((end, i) => {
    const inside = spans.filter(s => s.offset <= edges[i] && s.offset + s.length >= end);
    return inside.reduce((node, span) => marked(span, node, acts), document.createTextNode(text.slice(edges[i], end)));
  });
}

function marked(span, node, acts) {
  if (MARKS[span.type]) return el(MARKS[span.type], {}, node);
  if (span.type === 'command') return el('button', { class: 'link', onclick: () => acts.command(span.value) }, node);
  if (span.type === 'start') return el('button', { class: 'link', onclick: () => acts.link(span.value) }, node);
  return el('a', { href: span.value, target: '_blank', rel: 'noopener noreferrer' }, node);
}

/** Web addresses; links that open the bot; commands in what the bot says. */
function links(message) {
  const found = [];
  for (const match of message.text.matchAll(/https?:\/\/[^\s<>«»"]+/g)) {
    const start = match[0].match(/^https:\/\/t\.me\/(\w+)\?start=([\w-]+)$/);
    const ours = start && start[1] === bot()?.username;
    found.push({ type: ours ? 'start' : 'url', value: ours ? start[2] : match[0], offset: match.index, length: match[0].length });
  }
  const talks = otherSide(message.chat, message.from).person?.is_bot || message.from === bot()?.id;
  for (const match of talks ? message.text.matchAll(/(?<=^|\s)\/[a-z]\w{1,31}\b/g) : []) {
    found.push({ type: 'command', value: match[0], offset: match.index, length: match[0].length });
  }
  return found;
}

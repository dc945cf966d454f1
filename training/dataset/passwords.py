"""Passwords: no arithmetic tells them, only the word before them and their looks.

"password: hunter2" is one, "the password is wrong" is none: after a sign any single token is taken, without one
only what no ordinary word looks like.
"""

import re
from collections.abc import Callable, Iterator

Spans = Iterator[tuple[int, int]]

_PASSWORD_WORD = (
    r"(?:(?:wi-?fi|wlan|wpa2?|network|netzwerk)[ -]?(?:key|code|schlüssel)|pass(?:word|wort|code|phrase|wd)?|"
    r"(?:wlan|wifi)passwort|pwd|pw|kennwort|mot de passe|mdp|contraseña|senha|hasło|wachtwoord|parola(?:m|sı|mız)?|"
    r"şifre(?:m|si|miz|niz)?|парол[ьяеюа]м?|lösenord|heslo|salasana|adgangskode|"
    r"كلمة (?:المرور|السر)|סיסמה|pin(?:[ -]?(?:code|kodu?))?|пин(?:-?код)?|puk)"
)
FOR_WHAT = (
    r"(?:\s+(?:for|of|to|on|für|fürs|zum|pour|du|de|del|do|da|di|para|voor|van|для|от|к|на|в)"
    r"\s+[^\s:=]+(?:\s+[^\s:=]+){0,2}?)?"
)
IS = r"(?:is|ist|lautet|est|es|é|è|это|jest|now|jetzt|теперь)"
_TOKEN = r"(?P<secret>\"[^\"\n]{4,40}\"|«[^»\n]{4,40}»|“[^”\n]{4,40}”|`[^`\n]{4,40}`|'[^'\n]{4,40}'|[^\s\"«»“”`']{4,})"
# "password: hunter2", "пароль от вайфая - …": the word, a sign, one token.
_SIGNED_PASSWORD = re.compile(
    rf"(?P<head>(?<![\w/]){_PASSWORD_WORD}(?!\w){FOR_WHAT}(?:\s*(?:[:：=]|->|→)\s*|\s+[-–—]\s+)){_TOKEN}", re.IGNORECASE
)
# "the password is different", "password hunter2": without a sign only what no ordinary word looks like.
_PLAIN_PASSWORD = re.compile(
    rf"(?P<head>(?<![\w/]){_PASSWORD_WORD}(?!\w)(?:['’]s)?{FOR_WHAT}\s+(?:{IS}\s*:?\s+)?){_TOKEN}", re.IGNORECASE
)
_ENDS_IN_IS = re.compile(rf"{IS}\s*:?\s+$", re.IGNORECASE)
# Scripts without spaces: a token in ASCII straight after the word.
_CJK_PASSWORD = re.compile(
    r"(?:密[码碼]|パスワード|暗証番号|비밀번호|비번)(?:[:：=]|是|为|為|は|는|은)?\s*(?P<secret>(?=[!-~]*\d)[!-~]{4,40})"
)
_ASKS_SECRET = re.compile(
    rf"(?<!\w)(?:{_PASSWORD_WORD}|(?:door|gate|login|sms) code|код)(?!\w)[^.!\n]*\?", re.IGNORECASE
)

_QUOTES = "\"'`«»“”"
_PASSWORD_HINTS = (
    "pass", "pw", "wort", "mdp", "contrase", "senha", "hasło", "parola", "şifre", "парол", "pin", "пин", "puk",
    "key", "code", "schlüssel", "wachtwoord", "lösenord", "heslo", "salasana", "adgangskode", "كلمة", "סיסמה", "密",
    "パス", "暗証", "비밀", "비번",
)  # fmt: skip
# What stands after "password" in ordinary talk, not as one.
_ORDINARY = re.compile(
    r"(?:reset|change[ds]?|forgot(?:ten)?|wrong|protected|required|manager|expired|incorrect|missing|invalid|"
    r"needed|empty|field|only|hash(?:es|ed)?|auth\w*|based|file|prompt|please|there|that|this|your|what|same|"
    r"none|null|true|false|string|optional|must|then|when|click|here|enter|sent|send|with|from|nope|sure|"
    r"забыл\w*|неверн\w*|тот|такой|старый|новый|пришлю|скину|vergessen|falsch|geändert|yanlış|unuttum|"
    r"md5|sha-?\d+|pbkdf2|bcrypt|argon2\w*|oauth2?|base64|utf-?8|ldap\w*|2fa|python[23]|v\d[\d.]*)[.,;!?)]*",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"[<{\[$%(].*|[*•.xX_?-]+|\w+://\S*|/\S*|\w+\(.*")
_STRONG = re.compile(r"(?=.*\d)(?=.*[^\W\d_])|\d{4,}|(?=.*[^\W\d_])(?=.*[!@#$%^&*+])|[^\W\d_]*[a-zа-я][A-ZА-Я]")


def signed(text: str) -> Spans:
    """Behind a word that says password and a sign."""
    return _found(text, _SIGNED_PASSWORD, _after_sign)


def plain(text: str) -> Spans:
    """Behind the word alone."""
    return _found(text, _PLAIN_PASSWORD, _without_sign)


def unspaced(text: str) -> Spans:
    """In scripts that put no space behind the word."""
    return (match.span("secret") for match in _CJK_PASSWORD.finditer(text))


def mentioned(text: str) -> bool:
    """Whether one of the words may be there at all: a quick look."""
    folded = text.casefold()
    return any(hint in folded for hint in _PASSWORD_HINTS)


def asked_for(question: str) -> bool:
    """Whether a question asks for a password or a code."""
    return _ASKS_SECRET.search(question) is not None


def looks_like_one(token: str) -> bool:
    """Whether no ordinary word is written so."""
    return len(token) >= 4 and _STRONG.match(token) is not None and not _is_ordinary(token)


def _found(text: str, pattern: re.Pattern[str], is_password: Callable[[str, str, str], bool]) -> Spans:
    position = 0
    while match := pattern.search(text, position):
        start, end = match.span("secret")
        quoted = match["secret"][0] in _QUOTES
        token = match["secret"] if quoted else match["secret"].rstrip(".,;!?)")
        word = token.strip(_QUOTES)
        fits = is_password(match["head"], word, text[end:]) or (quoted and _ENDS_IN_IS.search(match["head"]))
        if len(word) >= 4 and not _is_ordinary(word) and fits:
            yield start, start + len(token)
            position = end
        else:
            position = match.start() + 1  # the token may be the word itself: "password pass: x1y2"


def _after_sign(head: str, token: str, rest: str) -> bool:
    """A plain word opening a sentence ("password: still the same one") or after a dash is none."""
    is_sentence = len(rest.split("\n")[0].split()) >= 3
    return _STRONG.match(token) is not None or not (is_sentence or head.rstrip()[-1] in "-–—")


def _without_sign(head: str, token: str, rest: str) -> bool:
    if not token.isdecimal():
        return len(token) >= 5 and _STRONG.match(token) is not None
    if head.casefold().startswith(("pin", "пин", "puk", "şifre")):
        return len(token) <= 8
    return _ENDS_IN_IS.search(head) is not None


def _is_ordinary(token: str) -> bool:
    return _ORDINARY.fullmatch(token) is not None or _PLACEHOLDER.fullmatch(token) is not None

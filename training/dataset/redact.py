"""Secrets out of a text before a model sees it: [email], [phone], [card], [iban], [wallet], [key],
[password], [code], [id].

Precision counts as much as recall. Order numbers, years, dates, times, versions, prices, coordinates,
IP addresses, ISBNs, issue numbers, commit hashes, UUIDs and @names stay as they are: they open nothing.
Words decide where digits alone can't ("code: 4821", "order 0171 …"), in the languages the owner is
likely to write; numbers are checked by their own arithmetic (numeric.py).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator

from training.dataset import numeric

Spans = Iterator[tuple[int, int]]

_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]*\w@(?:[\w-]+\.)+[^\W\d_]{2,24}(?![\w-])(?!:[\w~/])"  # git@host:path is no mailbox
    r"|(?<![\w.+-])[\w.+-]+ ?[\[(](?:at|@)[\])] ?[\w-]+(?: ?(?:\.|[\[(](?:dot|\.)[\])]) ?[\w-]+)+(?!\w)"
    r"|(?<![\w.+-])[\w.+-]+ at (?:[\w-]+ dot ){1,2}(?:com|org|net|edu|gov|info|io|me|[a-z]{2})(?!\w)",
    re.IGNORECASE,
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
# Tokens that carry their maker's mark.
_MARKED_KEY = re.compile(
    r"(?:(?<![\w-])|(?<=/bot))(?:"
    r"\d{8,12}:[A-Za-z0-9_-]{33,37}"  # Telegram bots
    r"|(?:sk|pk|rk)[-_](?:(?:live|test|proj|ant|or)[-_])?(?=[\w-]*\d)[A-Za-z0-9_-]{16,}"  # OpenAI, Stripe …
    r"|whsec_[A-Za-z0-9+/=]{20,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,}"
    r"|A(?:KIA|SIA)[0-9A-Z]{16}"
    r"|AIza[\w-]{35}|ya29\.[\w-]{20,}"
    r"|hf_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{40,}|dop_v1_[0-9a-f]{40,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}"
    r"|[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,38}"  # Discord bots
    r"|AGE-SECRET-KEY-1[0-9A-Z]{20,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"  # JWT
    r")(?![\w-])"
)
_URL = re.compile(r"(?:\w+://|www\.)\S+", re.IGNORECASE)
_URL_LOGIN = re.compile(r"(?<=://)[^\s/:@\[]+:[^\s/@]+(?=@)")
_URL_QUERY = re.compile(
    r"(?P<head>[?&#](?:(?:access|auth|refresh|id)_?)?(?:token|api_?key|secret|passw(?:or)?d|pwd|sig|signature)=)"
    r"(?P<secret>[^&#\s]{6,})",
    re.IGNORECASE,
)
_LONG_TOKEN = re.compile(r"(?<![\w/.=@%+-])[A-Za-z0-9_-]{32,}(?![\w/.@%+-])")

_PASSWORD_WORD = (
    r"(?:(?:wi-?fi|wlan|wpa2?|network|netzwerk)[ -]?(?:key|code|schlüssel)|pass(?:word|wort|code|phrase|wd)?|"
    r"(?:wlan|wifi)passwort|pwd|pw|kennwort|mot de passe|mdp|contraseña|senha|hasło|wachtwoord|parola(?:m|sı|mız)?|"
    r"şifre(?:m|si|miz|niz)?|парол[ьяею]м?|pin(?:[ -]?(?:code|kodu?))?|пин(?:-?код)?|puk)"
)
_FOR_WHAT = r"(?:\s+(?:for|of|to|on|für|fürs|zum|pour|du|de|del|para|для|от|к|на|в)\s+[^\s:=]+(?:\s+[^\s:=]+){0,2}?)?"
_IS = r"(?:is|ist|lautet|est|es|é|è|это|jest|now|jetzt|теперь)"
_TOKEN = r"(?P<secret>\"[^\"\n]{4,40}\"|«[^»\n]{4,40}»|“[^”\n]{4,40}”|`[^`\n]{4,40}`|'[^'\n]{4,40}'|[^\s\"«»“”`']{4,})"
# "password: hunter2", "пароль от вайфая - …": the word, a sign, one token.
_SIGNED_PASSWORD = re.compile(
    rf"(?P<head>(?<![\w/]){_PASSWORD_WORD}(?!\w){_FOR_WHAT}(?:\s*(?::|=|->|→)\s*|\s+[-–—]\s+)){_TOKEN}", re.IGNORECASE
)
# "the password is different", "password hunter2": without a sign only what no ordinary word looks like.
_PLAIN_PASSWORD = re.compile(
    rf"(?P<head>(?<![\w/]){_PASSWORD_WORD}(?!\w){_FOR_WHAT}\s+(?:{_IS}\s*:?\s+)?){_TOKEN}", re.IGNORECASE
)
_ENDS_IN_IS = re.compile(rf"{_IS}\s*:?\s+$", re.IGNORECASE)
_PHRASE = re.compile(
    r"(?P<head>(?<!\w)(?:seed|recovery|mnemonic|backup|secret)[ -]?(?:phrase|words)[^\w\n]*[:=\n]\s*)"
    r"(?P<secret>(?:[a-z]{3,8}[ ,\n]{1,2}){11,23}[a-z]{3,8})"
    r"|(?<!\w)passphrase\s*[:=]\s*(?P<words>[^\W\d]{3,12}(?: [^\W\d]{3,12}){2,7})",
    re.IGNORECASE,
)
_KEY_WORD = (
    r"(?:api[ _-]?(?:key|token|secret|hash)|client[ _-]?secret|secret(?:[ _-](?:key|token))?|bearer|token|"
    r"(?:access|auth|refresh|bot|session|deploy|private|account)[ _-]?(?:token|key)|(?:api|апи)[ -]?ключ|"
    r"ключ (?:api|апи)|токен)"
)
_KEY = re.compile(
    rf"(?P<head>(?<!\w){_KEY_WORD}{_FOR_WHAT}(?:\s*[:=]\s*|\s+(?:{_IS}\s*:?\s+)?)[\"'`]?)"
    r"(?P<secret>(?=[^\s]*\d)(?=[^\s]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9_\-./+=~]{11,})",
    re.IGNORECASE,
)
# One-time and door codes. A bare "code 404" stays: error, exit, zip and country codes are everywhere.
_CODE = re.compile(
    r"(?P<head>(?<!\w)(?:(?:log-?in|verification|confirmation|confirm|security|one[- ]time|2fa|sms|auth\w*|access|"
    r"door|gate|alarm|entry|unlock|lock)[ -]?code\b[^\d\n]{0,14}?|otp\b[^\d\n]{0,8}|cv[vc]2?\b[^\d\n]{0,4}|"
    r"(?<!error )(?<!status )(?<!exit )(?<!zip )(?<!area )(?<!country )(?<!postal )(?<!source )(?<!http )"
    r"\bcode(?: is|:) ?|"
    r"код(?:ы)?(?: (?:подтверждения|для входа|входа|доступа|безопасности|из смс|от \w+|домофона|двери))?"
    r"\s*[-–—:]?\s*|"
    r"(?:bestätigungs|sicherheits|zugangs|tür|anmelde|tan)-?code[^\d\n]{0,10}|"
    r"(?:doğrulama|onay|giriş|güvenlik|kapı) kodu[^\d\n]{0,10}))"
    r"(?P<secret>(?:G-)?\d{3,4}[ -]\d{3,4}|(?:G-)?\d{4,8}|(?<=cv[vc]\W)\d{3})(?![\w-]|[.,:]\d)",
    re.IGNORECASE,
)
_ID = re.compile(
    r"(?P<head>(?<!\w)(?:passport|паспорт|reisepass|(?:personal)?ausweis|pasaport|ssn|social security|снилс|инн|"
    r"steuer-?id|t\.?c\.? ?kimlik|driver'?s licen[cs]e)(?:\s*(?:number|nummer|no|num|nr|номер|серия|is|numaram)\.?)*"
    r"[\s:=#№-]{1,4})(?P<secret>(?=(?:\D*\d){6})[A-Z]{0,3}\d[\dA-Z]*(?:[ -]?[\dA-Z]*\d){0,5})(?!\w)",
    re.IGNORECASE,
)
_ASKS_SECRET = re.compile(
    rf"(?<!\w)(?:{_PASSWORD_WORD}|(?:door|gate|login|sms) code|код)(?!\w)[^.!\n]*\?", re.IGNORECASE
)

_QUOTES = "\"'`«»“”"
_PASSWORD_HINTS = (
    "pass", "pw", "wort", "mdp", "contrase", "senha", "hasło", "parola", "şifre", "парол", "pin", "пин", "puk",
    "key", "code", "schlüssel", "wachtwoord",
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


def redact(text: str) -> tuple[str, Counter[str]]:
    """The text with its secrets masked, and how many of each kind. Masking twice changes nothing."""
    counts: Counter[str] = Counter()
    while True:  # a mask may lay bare what its secret hid from another rule; mostly one round
        masked = _mask_once(text, counts)
        if masked == text:
            return text, counts
        text = masked


def redact_answer(question: str, answer: str) -> tuple[str, Counter[str]]:
    """`redact`, and a lone token that answers "what's the password?" goes too."""
    masked, counts = redact(answer)
    words = masked.split()
    if len(words) <= 2 and words and _ASKS_SECRET.search(question):
        token = words[-1].strip(".,!\"'`«»")
        if len(token) >= 4 and _STRONG.match(token) and not _is_ordinary(token):
            counts["password"] += 1
            masked = masked.replace(token, "[password]")
    return masked, counts


def masks_in(text: str) -> Counter[str]:
    """How many secrets of each kind were masked in a text."""
    return Counter(match[1] for match in _MASK.finditer(text)) if "[" in text else Counter()


def _mask_once(text: str, counts: Counter[str]) -> str:
    for kind, worth, find in _RULES:
        if not worth(text):
            continue
        for start, end in reversed(list(find(text))):
            text = f"{text[:start]}[{kind}]{text[end:]}"
            counts[kind] += 1
    return text


def _matches(pattern: re.Pattern[str]) -> Callable[[str], Spans]:
    return lambda text: (match.span() for match in pattern.finditer(text))


def _secrets(pattern: re.Pattern[str]) -> Callable[[str], Spans]:
    return lambda text: (
        match.span("secret") for match in pattern.finditer(text) if not match["secret"].startswith("[")
    )


def _phrases(text: str) -> Spans:
    return (match.span(match.lastgroup or 0) for match in _PHRASE.finditer(text))


def _passwords(pattern: re.Pattern[str], is_password: Callable[[str, str, str], bool]) -> Callable[[str], Spans]:
    def find(text: str) -> Spans:
        position = 0
        while match := pattern.search(text, position):
            start, end = match.span("secret")
            token = match["secret"] if match["secret"][0] in _QUOTES else match["secret"].rstrip(".,;!?)")
            word = token.strip(_QUOTES)
            if len(word) >= 4 and not _is_ordinary(word) and is_password(match["head"], word, text[end:]):
                yield start, start + len(token)
                position = end
            else:
                position = match.start() + 1  # the token may be the word itself: "password pass: x1y2"

    return find


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


def _long_tokens(text: str) -> Spans:
    """Random strings of 32 and more: both cases and several runs of digits (a hash in hex has one case)."""
    for match in _LONG_TOKEN.finditer(text):
        token = match[0]
        upper, lower = sum(c.isupper() for c in token), sum(c.islower() for c in token)
        if upper >= 4 and lower >= 4 and len(re.findall(r"\d+", token)) >= 3:
            yield match.span()


def _outside_urls(find: Callable[[str], Spans]) -> Callable[[str], Spans]:
    """Numbers in a link are ids; only a link that is itself a phone number is one."""

    def outside(text: str) -> Spans:
        links = [match.span() for match in _URL.finditer(text)]
        for start, end in find(text):
            if not any(first <= start < last for first, last in links):
                yield start, end

    return outside


def _has_password_word(text: str) -> bool:
    folded = text.casefold()
    return any(hint in folded for hint in _PASSWORD_HINTS)


def _has_email(text: str) -> bool:
    return "@" in text or " at " in text or "at]" in text or "at)" in text


_has_long_run = re.compile(r"(?<![\w:./+=-])(?=[\w:./+=-]*\d)[\w:./+=-]{12}").search
_has_digits = re.compile(r"\d(?:\D{0,3}\d){5}").search
_has_code = re.compile(r"\d\d\d").search

_RULES: tuple[tuple[str, Callable[[str], object], Callable[[str], Spans]], ...] = (
    ("key", lambda text: "PRIVATE KEY" in text, _matches(_PRIVATE_KEY)),
    ("key", _has_long_run, _matches(_MARKED_KEY)),
    ("password", lambda text: "://" in text, _matches(_URL_LOGIN)),
    ("key", lambda text: "=" in text, _secrets(_URL_QUERY)),
    ("key", lambda text: "phrase" in text or "words" in text, _phrases),
    ("password", _has_password_word, _passwords(_SIGNED_PASSWORD, _after_sign)),
    ("password", _has_password_word, _passwords(_PLAIN_PASSWORD, _without_sign)),
    ("key", _has_long_run, _secrets(_KEY)),
    ("code", _has_code, _outside_urls(_secrets(_CODE))),
    ("email", _has_email, _matches(_EMAIL)),
    ("id", _has_digits, _secrets(_ID)),
    ("iban", _has_digits, _outside_urls(numeric.ibans)),
    ("wallet", _has_long_run, numeric.wallets),
    ("card", _has_digits, _outside_urls(numeric.cards)),
    ("phone", _has_digits, numeric.phone_links),
    ("phone", _has_digits, _outside_urls(numeric.phones)),
    ("key", _has_long_run, _outside_urls(_long_tokens)),
)
_MASK = re.compile(rf"\[({'|'.join(dict.fromkeys(kind for kind, _, _ in _RULES))})\]")

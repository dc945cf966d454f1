"""Secrets out of a text before a model sees it: [email], [phone], [card], [iban], [wallet], [key],
[password], [code], [id].

Precision counts as much as recall. Order numbers, years, dates, times, versions, prices, coordinates,
IP addresses, ISBNs, issue numbers, commit hashes, UUIDs and @names stay as they are: they open nothing.
Words decide where digits alone can't ("code: 4821", "order 0171 …"), in the languages the owner is
likely to write; numbers are checked by their own arithmetic (numeric.py), passwords by their looks (passwords.py).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator

from training.dataset import numeric, passwords
from training.dataset.passwords import FOR_WHAT, IS

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

_PHRASE = re.compile(
    r"(?P<head>(?<!\w)(?:seed|recovery|mnemonic|backup|secret)[ -]?(?:phrase|words)[^\w\n]*[:=\n]\s*)"
    r"(?P<secret>(?:[a-z]{3,8}[ ,\n]{1,2}){11,23}[a-z]{3,8})"
    r"|(?<!\w)passphrase\s*[:=]\s*(?P<words>[^\W\d]{3,12}(?: [^\W\d]{3,12}){2,7})",
    re.IGNORECASE,
)
_KEY_WORD = (
    r"(?:api[ _-]?(?:key|token|secret|hash)|client[ _-]?secret|secret(?:[ _-](?:key|token))?|bearer|token|"
    r"(?:access|auth|refresh|bot|session|deploy|private|account)[ _-]?(?:token|key)|"
    r"\w+_(?:secret|token|(?:secret|access|private|api)_key)|(?:api|апи)[ -]?ключ|"
    r"ключ (?:api|апи)|токен)"
)
_KEY = re.compile(
    rf"(?P<head>(?<!\w){_KEY_WORD}{FOR_WHAT}(?:\s*[:=]\s*|\s+(?:{IS}\s*:?\s+)?)[\"'`]?)"
    r"(?P<secret>(?=[^\s]*\d)(?=[^\s]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9_\-./+=~]{11,})",
    re.IGNORECASE,
)
# One-time and door codes. A bare "code 404" stays: error, exit, zip and country codes are everywhere.
_CODE = re.compile(
    r"(?P<head>(?<!\w)(?:(?:log-?in|verification|confirmation|confirm|security|one[- ]time|2fa|sms|auth\w*|access|"
    r"door|gate|alarm|entry|unlock|lock)[ -]?code\b[^\d\n]{0,14}?|otp\b[^\d\n]{0,8}|"
    r"(?<!error )(?<!status )(?<!exit )(?<!zip )(?<!area )(?<!country )(?<!postal )(?<!source )(?<!http )"
    r"\bcode(?: is|:) ?|"
    r"код(?:ы)?(?: (?:подтверждения|для входа|входа|доступа|безопасности|из смс|от \w+|домофона|двери))?"
    r"\s*[-–—:]?\s*|"
    r"(?:bestätigungs|sicherheits|zugangs|tür|anmelde|tan)-?code[^\d\n]{0,10}|"
    r"(?:doğrulama|onay|giriş|güvenlik|kapı) kodu[^\d\n]{0,10}))"
    r"(?P<secret>(?:G-)?\d{3,4}[ -]\d{3,4}|(?:G-)?\d{4,8})(?![\w-]|[.,:]\d)",
    re.IGNORECASE,
)
_CARD_CODE = re.compile(r"(?<!\w)cv[vc]2?\b[^\d\n]{0,4}(?P<secret>\d{3,4})(?!\w)", re.IGNORECASE)
# "482913 is your verification code", "use 482913 to log in"
_CODE_FIRST = re.compile(
    r"(?<![\w.-])(?P<secret>(?:G-)?\d{4,8}|\d{3}[ -]\d{3})"
    r"(?= (?:is|ist|[-–—]) (?:your|dein|ihr|the|ваш|твой) (?:\S+ ){0,3}?(?:\w*code|otp|pin|passcode|код)\b"
    r"| (?:as your \w+ code|to (?:verify|confirm|log ?in|sign ?in)\b))",
    re.IGNORECASE,
)
_ID = re.compile(
    r"(?P<head>(?<!\w)(?:passport|паспорт|reisepass|(?:personal)?ausweis|pasaport|ssn|social security|снилс|инн|"
    r"steuer-?id|t\.?c\.? ?kimlik|driver'?s licen[cs]e)(?:\s*(?:number|nummer|no|num|nr|номер|серия|is|numaram)\.?)*"
    r"[\s:=#№-]{1,4})(?P<secret>(?=(?:\D*\d){6})[A-Z]{0,3}\d[\dA-Z]*(?:[ -]?[\dA-Z]*\d){0,5})(?!\w)",
    re.IGNORECASE,
)


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
    if len(words) <= 2 and words and passwords.asked_for(question):
        token = words[-1].strip(".,!\"'`«»")
        if passwords.looks_like_one(token):
            counts["password"] += 1
            masked, more = redact(masked.replace(token, "[password]"))
            counts += more
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
    ("password", passwords.mentioned, passwords.signed),
    ("password", passwords.mentioned, passwords.plain),
    ("password", passwords.mentioned, passwords.unspaced),
    ("key", _has_long_run, _secrets(_KEY)),
    ("code", _has_code, _outside_urls(_secrets(_CODE))),
    ("code", _has_code, _outside_urls(_secrets(_CODE_FIRST))),
    ("code", _has_code, _secrets(_CARD_CODE)),
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

"""Numbers that are secrets: payment cards, bank accounts, wallets and telephones, found by their own rules.

Each function yields the spans of one kind. What only looks like one (an order number, a date, a
price, an id) fails the arithmetic, the grouping or the word before it.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

import phonenumbers
from stdnum import bitcoin, iban, luhn

Spans = Iterator[tuple[int, int]]

_CARD = re.compile(r"(?<![\w.,:/#=+-])\d(?:[ -]?\d){12,18}(?![\w/]|[.,:-]\d)")
# Issuers and their lengths: Visa, Mastercard, Amex, Diners, Discover, JCB, Mir, UnionPay, Maestro, Troy.
_ISSUER = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|6(?:011|4[4-9]\d|5\d\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|220[0-4]\d{12,15}"
    r"|62\d{14,17}|(?:50|5[6-9]|6[0-9])\d{14}|9792\d{12}"
)
_CARD_GROUPS = {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 6), (6, 13), (8, 8), (4, 4, 4, 4, 2)}
_IBAN = re.compile(r"(?<![^\W_])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}(?![^\W_])")
_WALLET = re.compile(
    r"(?<![\w/])(?:0x[0-9a-fA-F]{40}|[13][1-9A-HJ-NP-Za-km-z]{25,34}|bc1[0-9a-z]{11,71}"
    r"|T[1-9A-HJ-NP-Za-km-z]{33}|[UE]Q[\w-]{46})(?![\w/-])"
)
_PHONE_LINK = re.compile(r"(?:(?<=wa\.me/)\+?|(?<=t\.me/\+)|(?<=tel:)\+?|(?<=[?&]phone=)\+?)\d{7,15}(?!\w)")
_INTERNATIONAL = re.compile(r"(?<![\w+])\+ ?\d(?:[ ()./\-\u00a0\u2011–]{0,3}\d){6,14}(?!\w)")
_NATIONAL = re.compile(
    r"(?<![\w.,:/#=@$€£₽₺+\-])(?:\(\d|\d)(?:[ ()./\-\u00a0\u2011–]{0,2}\d){6,13}(?![\w%€$£₽₺@=/]|[.,:-]\d)"
)
_DATE = re.compile(
    r"(?:\d{1,2}[./ -]\d{1,2}[./ -](?:19|20)\d\d|(?:19|20)\d\d[./ -]?(?:0\d|1[0-2])[./ -]?[0-3]\d)(?!\d)"
    r"|(?<![\d.])\d{1,2}\.\d{1,2}\.\d{2}(?![\d.])"
)
_NETWORK = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")  # 192.168.31.21
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:[ .\u00a0]\d{3})+")
_PHONE_WORD = re.compile(
    r"(?<!\w)(?:\w*phone|tel|call|text|cell|mobile|whats-?app|signal|viber|dial|sms|(?:my|his|her|the) number|ring|fax|"
    r"handy\w*|nummer|\w*rufnummer|telefon\w*|anruf\w*|ruf|numara\w*|ara|cep|numéro|tél\w*|móvil|cellulare|celular|"
    r"номер\w*|тел\w*|моб\w*|звони\w*|позвони\w*|набери\w*|вотсап|ватсап)\b[^\n\d]{0,16}$",
    re.IGNORECASE,
)
_OTHER_NUMBER_WORD = re.compile(
    r"(?<!\w)(?:order|invoice|tracking|ticket|isbn|issn|imei|ean|vin|id|uid|ref\w*|serial|case|account|acct|doi|issue|bug|"
    r"заказ\w*|трек\w*|накладн\w*|сч[её]т\w*|bestell\w*|auftrag\w*|rechnung\w*|sendung\w*|konto\w*|kunden\w*|"
    r"sipariş\w*|kargo\w*|fatura\w*|commande|facture|pedido|версия|version|code|pin|passcode)\b[^\n\d]{0,12}$",
    re.IGNORECASE,
)
# Where a national number may be at home; the owner's own country is not known here.
_REGIONS = ("US", "GB", "DE", "FR", "IT", "ES", "TR", "RU", "UA", "KZ", "PL", "NL", "CH", "AT", "IN", "BR", "IL")


def cards(text: str) -> Spans:
    """Payment cards: an issuer's prefix and length, Luhn's check digit, and written as a card is."""
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        groups = tuple(map(len, re.findall(r"\d+", match[0])))
        # 17 to 19 digits in one piece are far more often an id than a card.
        written_so = groups in _CARD_GROUPS if len(groups) > 1 else len(digits) <= 16
        if written_so and _ISSUER.fullmatch(digits) and len(set(digits)) > 1 and luhn.is_valid(digits):
            if not _OTHER_NUMBER_WORD.search(text, max(0, match.start() - 24), match.start()):
                yield match.span()


def ibans(text: str) -> Spans:
    """Bank accounts whose check digits are right."""
    for match in _IBAN.finditer(text):
        # The pattern may run on into following words: the longest valid beginning is the number.
        for end in range(len(match[0]), 14, -1):
            if match[0][end - 1] not in " -" and iban.is_valid(match[0][:end]):
                yield match.start(), match.start() + end
                break


def wallets(text: str) -> Spans:
    """Bitcoin (checked), Ethereum, Tron and TON addresses."""
    for match in _WALLET.finditer(text):
        is_bitcoin = match[0][0] in "13b"
        if bitcoin.is_valid(match[0]) if is_bitcoin else re.search(r"[a-z].*\d|\d.*[a-z]", match[0]):
            yield match.span()


def phone_links(text: str) -> Spans:
    """wa.me/…, t.me/+…, tel:… — the number in the link."""
    return (match.span() for match in _PHONE_LINK.finditer(text))


def phones(text: str) -> Spans:
    """International numbers anywhere; national ones where they are written, or spoken of, as a phone's."""
    taken = 0
    found = [m for m in _INTERNATIONAL.finditer(text) if _is_international(m[0])]
    found += [m for m in _NATIONAL.finditer(text) if _is_national(text, m)]
    for match in sorted(found, key=re.Match.start):
        if match.start() >= taken:
            taken = match.end()
            yield match.span()


def _is_international(raw: str) -> bool:
    if _DATE.search(raw) or re.search(r"[./-]{2}", raw):
        return False
    return _is_possible("+" + re.sub(r"\D", "", raw.replace("(0)", "")))


@lru_cache(maxsize=10_000)
def _is_possible(number: str) -> bool:
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number(parsed) and int(str(parsed.national_number)) % 100_000 != 0


def _is_national(text: str, match: re.Match[str]) -> bool:
    raw, start = match[0], match.start()
    digits = re.sub(r"\D", "", raw)
    if _DATE.search(raw) or re.search(r"[./-]{2}", raw) or raw.count("(") != raw.count(")"):
        return False
    if _NETWORK.fullmatch(raw):
        return False
    before = max(0, start - 32)
    if _OTHER_NUMBER_WORD.search(text, before, start):
        return False
    if _PHONE_WORD.search(text, before, start):
        return not re.fullmatch(r"\d{1,4}\.\d+", raw)
    if len(digits) < 9 or _THOUSANDS.fullmatch(raw):
        return False
    if digits.startswith("00"):
        return _is_possible("+" + digits[2:]) and len(digits) >= 11
    groups = tuple(map(len, re.findall(r"\d+", raw)))
    if groups == (3, 3, 4) and re.fullmatch(r"\(\d{3}\) ?\d{3}[- .]\d{4}|\d{3}-\d{3}-\d{4}", raw):
        return True  # 555-010-0199: nobody writes anything else so
    return _looks_dialled(raw, digits, groups) and _is_valid_somewhere(digits)


def _looks_dialled(raw: str, digits: str, groups: tuple[int, ...]) -> bool:
    """A trunk prefix, an area code in brackets, or a grouping known from phones."""
    if digits.startswith("0"):
        return groups[0] >= 2 and len(digits) <= 12
    if digits.startswith(("89", "79")) and len(digits) == 11:
        return len(groups) == 1 or groups[0] in (1, 4)
    if raw.startswith("(") or re.match(r"[178][ -]?\(\d{3}\)", raw):
        return len(digits) in (10, 11)
    return groups in ((1, 3, 3, 4), (1, 3, 3, 2, 2), (3, 3, 2, 2), (3, 3, 4), (2, 5, 4))


@lru_cache(maxsize=10_000)
def _is_valid_somewhere(digits: str) -> bool:
    for region in _REGIONS:
        try:
            if phonenumbers.is_valid_number_for_region(phonenumbers.parse(digits, region), region):
                return True
        except phonenumbers.NumberParseException:
            continue
    return False

"""A-WEB: attacks on webmail by hand (essay 1.2 and 4.0). What needs a browser is in tests/journeys."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import SMTP
from http.cookies import SimpleCookie
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

from playwright.async_api import async_playwright

from outpost.errors import OutpostError
from outpost.office import ports
from outpost_lab import desk
from outpost_lab.attack.catalogue import attack, words
from outpost_lab.attack.content import acting_html
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import SINK, Ground, token
from outpost_lab.attack.wire import Session
from outpost_lab.post import compose

TOO_MANY = 429  # RFC 6585, section 4
GUESSES = 100


@dataclass
class Page:
    """An answer."""

    status: int
    headers: Message
    body: str

    @property
    def token(self) -> str:
        """Roundcube's token against forged requests."""
        found = re.search(r'"request_token":"([^"]+)"|name="_token" value="([^"]+)"', self.body)
        return (found[1] or found[2]) if found else ""

    def leaks(self, pattern: str) -> str:
        """Internal details that it shows, if any."""
        found = re.search(pattern, self.body, re.IGNORECASE)
        return found.group() if found else ""


@dataclass
class Browser:
    """A user agent without a screen, in the office's LAN."""

    ground: Ground
    seen: Evidence
    cookies: dict[str, str] = field(default_factory=dict)
    set_cookies: list[str] = field(default_factory=list)

    @classmethod
    async def of(cls, ground: Ground, seen: Evidence, name: str) -> "Browser":
        """A logged-in user, by local part."""
        browser, address = cls(ground, seen), f"{name}@{ground.domain}"
        await browser.log_in(address, ground.password(address))
        seen.check(browser.inside, "inside", "refused")
        return browser

    @property
    def name(self) -> str:
        return self.ground.role("webmail").fqdn

    async def ask(
        self, path: str, form: dict[str, str] | None = None, *, raw: bytes | None = None, headers: str = ""
    ) -> Page:
        """One request in a connection of its own."""
        streams = await self.ground.lan.connect(self.ground.webmail, ports.HTTPS)
        async with Session(streams, self.seen.session()) as session:
            await session.start_tls(self.name, self.ground.trust)
            verb, body = ("GET", b"") if form is None else ("POST", urlencode(form).encode())
            cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            request = raw or (
                f"{verb} {path} HTTP/1.1\r\nHost: {self.name}\r\nConnection: close\r\n"
                + (f"Cookie: {cookie}\r\n" if cookie else "") + headers
                + (f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n" if body else "") + "\r\n"
            ).encode() + body  # fmt: skip
            await session.send(request, shown=f"{verb} {path[:150]}")
            data = await asyncio.wait_for(session.reader.read(-1), 30)
            head, _, text = data.partition(b"\r\n\r\n")
            status_line, _, lines = head.partition(b"\r\n")
            session.note(f"S: {status_line.decode('latin-1')}")
        status = int(status_line.split()[1]) if status_line.startswith(b"HTTP/") else 0
        fields = BytesParser().parsebytes(lines, headersonly=True)
        for value in fields.get_all("Set-Cookie", ()):
            self.set_cookies.append(value)
            self.cookies |= {crumb: morsel.value for crumb, morsel in SimpleCookie(value).items()}
        self.cookies = {crumb: value for crumb, value in self.cookies.items() if value != "-del-"}
        return Page(status, fields, text.decode("utf-8", "replace"))

    async def log_in(self, user: str, password: str, *, token: str | None = None) -> Page:
        start = await self.ask("/?_task=login")
        form = {"_token": start.token if token is None else token, "_task": "login", "_action": "login", "_timezone": "UTC",
                "_url": "", "_user": user, "_pass": password}  # fmt: skip
        return await self.ask("/?_task=login", form)

    async def followed(self, page: Page) -> Page:
        """The page itself, or the one that it redirects to."""
        where = page.headers.get("Location", "")
        return await self.ask(where[where.find("/?") :]) if page.status in (302, 303) else page

    async def composed(self, recipient: str, text: str) -> dict[str, str]:
        """The form of a new message, filled in."""
        page = await self.followed(await self.ask("/?_task=mail&_action=compose"))
        found = re.search(r'name="_id" value="([0-9a-f]+)"', page.body)
        identity = re.search(IDENTITY, page.body, re.DOTALL)
        return {"_token": page.token, "_task": "mail", "_action": "send", "_id": found[1] if found else "",
                "_from": identity[1] if identity else "1", "_to": recipient, "_subject": "plan", "_message": text,
                "_replyto": "", "_is_html": "0"}  # fmt: skip

    @property
    def inside(self) -> bool:
        """Whether it has a session of a user."""
        return "roundcube_sessauth" in self.cookies


@attack("8a")
async def sql_in_the_login(ground: Ground, seen: Evidence) -> None:
    for user in words()["8a"]["users"]:
        browser = Browser(ground, seen)
        page = await browser.log_in(user, "' OR '1'='1")
        leaked = page.leaks(r"SQLSTATE|syntax error|sqlite|PDOException|on line \d+")
        observed = f"{user}: status {page.status}" + (f", says {leaked}" if leaked else "")
        held = page.status < 500 and not leaked and not browser.inside
        seen.check(held, observed + (", INSIDE" if browser.inside else ""))
    browser = await Browser.of(ground, seen, "carol")
    for path in words()["8a"]["paths"]:
        page = await browser.ask(path, headers="X-Requested-With: XMLHttpRequest\r\n")
        held = page.status < 500 and not page.leaks(r"SQLSTATE|syntax error|sqlite|PDOException")
        seen.check(held, f"{path[7:40]}: status {page.status}")


@attack("8c")
async def sessions_and_forged_requests(ground: Ground, seen: Evidence) -> None:
    # not carol: Roundcube refuses one of two first logins of the same user at once
    address, made_up = f"bob@{ground.domain}", "0123456789abcdef" * 2
    browser = Browser(ground, seen, cookies={"roundcube_sessid": made_up})
    await browser.ask("/?_task=login")
    before = browser.cookies.get("roundcube_sessid", "none")
    seen.check(before != made_up, before[:6] + "…")
    await browser.log_in(address, ground.password(address))
    seen.check(browser.inside, "inside", "refused")
    seen.check(browser.cookies["roundcube_sessid"] != before, "new", "the same")
    for cookie in browser.set_cookies:
        if "-del-" not in cookie:
            held = all(flag in cookie.lower() for flag in ("secure", "httponly", "samesite"))
            seen.check(held, re.sub("=[^;]*", "=…", cookie, count=1))
    settings = {"_section": "general", "_language": "de_DE"}
    forged = await browser.ask("/?_task=settings&_action=save-prefs", settings)
    seen.check(forged.status == 403 or "request check" in forged.body.lower() or ("token" in forged.body.lower()[:4000] and forged.status != 200), f"status {forged.status}")  # fmt: skip
    stranger = Browser(ground, seen)
    await stranger.log_in(address, ground.password(address), token="")
    seen.check(not stranger.inside, "refused", "INSIDE")
    thief = Browser(ground, seen, cookies={"roundcube_sessid": browser.cookies["roundcube_sessid"]})
    page = await thief.ask("/?_task=mail")
    held = "rcmloginform" in page.body or page.status in (302, 401, 403) or "_pass" in page.body
    seen.check(held, f"status {page.status}")


@attack("8d")
async def guessing_at_webmail(ground: Ground, seen: Evidence) -> None:
    answers = []
    for number in range(5):
        browser = Browser(ground, seen)
        page = await browser.log_in(f"dave@{ground.domain}", f"guess-{number}")
        answers.append((page.status, browser.inside))
    seen.check(not any(inside for _, inside in answers), f"{len(answers)} guesses refused")
    limited = [status for status, _ in answers if status in (429, 503, 403)]
    log = await ground.on_store(
        "journalctl --quiet --no-pager -o cat -u dovecot -u outpost-accounts --since=-2min "
        "| grep -F dave@ | grep -oE 'rip=[0-9a-f.:]+' | sort -u"
    )
    workstation = str(ground.info["world"]["workstation"]["addresses"]["lan"][0])
    seen.check(bool(limited) or workstation in log, f"{len(limited)} limited; the store saw {log.split()}")


@attack("8e")
async def forbidden_paths(ground: Ground, seen: Evidence) -> None:
    browser = Browser(ground, seen)
    for path in words()["8e"]["paths"]:
        page = await browser.ask(path)
        leaked = page.leaks(r"root:x:0|des_key|CREATE TABLE|<\?php|\[core\]")
        held = page.status in (400, 403, 404, 405) or (page.status == 302 and not leaked)
        seen.check(held, f"{path}: {page.status}" + (" LEAKS" if leaked else ""))


@attack("8f")
async def smuggled_http_requests(ground: Ground, seen: Evidence) -> None:
    browser = Browser(ground, seen)
    for name, raw in words()["8f"]["requests"].items():
        request = raw.format(**ground.words, webmail=browser.name).encode()
        try:
            status = (await browser.ask("/", raw=request)).status
        except ConnectionError:
            status = 0
        seen.check(status in (0, 400, 403, 404, 413, 414, 421, 431), f"{name}: {status or 'closed'}")


@attack("8h")
async def a_hundred_wrong_logins_at_once(ground: Ground, seen: Evidence) -> None:
    """A colleague's pages must not wait for them."""
    reader = await Browser.of(ground, seen, "bob")

    async def shown() -> float:
        started = time.monotonic()
        await reader.ask("/?_task=mail")
        return time.monotonic() - started

    async def guess(number: int) -> int:
        browser = Browser(ground, seen)
        form = {"_task": "login", "_action": "login", "_user": f"nobody{number}", "_pass": "wrong"}
        page = await browser.ask("/?_task=login", form)
        return 200 if browser.inside else page.status

    idle = max([await shown() for _ in range(3)])
    guesses = [asyncio.create_task(guess(number)) for number in range(GUESSES)]
    waits = [await shown() for _ in range(3)]
    refused = (await asyncio.gather(*guesses, return_exceptions=True)).count(TOO_MANY)
    seen.check(refused > 0, f"{refused} of {GUESSES} refused with 429")
    seen.in_time(max(waits), 2, idle, "a page of bob's is shown within")


@attack("8i")
async def made_up_sessions(ground: Ground, seen: Evidence) -> None:
    begun, answers = 0, set()
    for number in range(30):
        browser = Browser(ground, seen, cookies={"roundcube_sessid": f"{number:032x}"})
        page = await browser.ask("/?_task=login")
        answers.add(page.status)
        begun += "roundcube_sessid" in browser.cookies
    seen.check(not begun and answers == {302}, f"status {sorted(answers)}", f"{begun} sessions begun")


@attack("8b")
async def mail_that_acts(ground: Ground, seen: Evidence) -> None:
    """Read in a real browser: no script of the message runs, and requests go only to webmail."""
    if not desk.present():
        raise OutpostError("8b reads a message in a real browser", desk.MISSING)
    reader = f"alice@{ground.domain}"
    message, mark = compose(f"accounts@{SINK}", [reader], "Invoice attached.\n")
    message.add_alternative(acting_html(f"https://tracker.{SINK}/pixel.png"), subtype="html")
    taken = await ground.mail(seen, f"accounts@{SINK}", reader, message.as_bytes(policy=SMTP))
    seen.check(taken.good, taken.brief)
    await ground.settled()
    name = ground.role("webmail").fqdn
    site = f"https://{name}/"
    with TemporaryDirectory() as directory:
        home = Path(directory)
        await asyncio.to_thread(desk.trusting, Path(ground.info["ca"]), home)
        workstation = ground.container("workstation")
        way = await asyncio.to_thread(desk.options, name, ground.webmail, home, workstation)
        async with async_playwright() as driver:
            chromium = await driver.chromium.launch(**way)
            page = await chromium.new_page()
            requests: list[str] = []
            page.on("request", lambda request: requests.append(request.url))
            await page.goto(site)
            await page.fill("#rcmloginuser", reader)
            await page.fill("#rcmloginpwd", ground.password(reader))
            await page.click("#rcmloginsubmit")
            await page.locator("#messagelist tbody tr", has_text=mark).click()
            body = page.frame_locator("#messagecontframe").locator("#messagebody")
            await body.locator("a").first.hover()
            shown = await body.inner_text()
            owned = [await frame.evaluate("[typeof window.owned, document.title]") for frame in page.frames]
            await chromium.close()
    seen.check("Invoice attached" in shown, shown.split()[:2])
    held = all(kind == "undefined" and title != "owned" for kind, title in owned)
    seen.check(held, f"{len(owned)} frames: {sorted({kind for kind, _ in owned})}")
    foreign = [url for url in requests if not url.startswith((site, "data:", "blob:", "about:"))]
    seen.check(not foreign, foreign or f"{len(requests)} requests, all to webmail")


@attack("5f")
async def weak_passwords(ground: Ground, seen: Evidence) -> None:
    """Bob sets passwords that guessers try first, in webmail's own form."""
    browser, own = Browser(ground, seen), f"bob@{ground.domain}"
    await browser.log_in(own, present := ground.password(own))
    if not browser.inside:
        raise OutpostError("bob cannot log in, so nothing was tested")
    for weak in (form.format(**ground.words) for form in words()["5f"]["weak"]):
        page = await browser.ask("/?_task=settings&_action=plugin.access")
        form = {"_token": page.token, "_task": "settings", "_action": "plugin.access", "_do": "change",
                "_password": present, "_new": weak, "_again": weak}  # fmt: skip
        answer = await browser.followed(await browser.ask("/?_task=settings&_action=plugin.access", form))
        observed = answer.leaks(r"Too easy to guess|Too short")
        taken = '"Password changed."' in answer.body
        outcome = "TAKEN" if taken else observed or f"status {answer.status}"
        seen.check(bool(observed) and not taken, f"{weak}: {outcome}")
        present = weak if taken else present


# the first number of the page is a priority
IDENTITY = r'<select name="_from".*?<option value="(\d+)"'


@attack("8g")
async def headers_injected_by_a_form(ground: Ground, seen: Evidence) -> None:
    """Text that bob writes into the fields of a message becomes neither a header nor another recipient."""
    own, recipient = f"bob@{ground.domain}", f"carol@{ground.domain}"
    browser = await Browser.of(ground, seen, "bob")
    for name, between in words()["8g"]["breaks"].items():
        for slot in ("_subject", "_to", "_replyto"):
            victim, mark = ground.victim(), token()
            form = await browser.composed(recipient, mark)
            form[slot] = (form[slot] or own) + f"{between}Bcc: {victim}{between}X-Injected: yes"
            await browser.ask("/?_task=mail&_action=send", form)
            await ground.settled()
            got = await ground.sink(victim)
            head = "xargs -r sed '/^\r*$/q'"
            headers = await ground.on_store(f"grep -rlF --include='*,S=*' {mark} /srv/mail | {head}")
            lines = headers.splitlines()
            injected = [line for line in lines if line.lower().startswith(("x-injected:", "bcc:"))]
            more = f", {injected[0][:60]}" if injected else ""
            seen.check(not got and not injected, f"{slot}, {name}: {got} at the victim's{more}")
    control = token()
    await browser.ask("/?_task=mail&_action=send", await browser.composed(recipient, control))
    arrived = await ground.until(lambda: ground.delivered(control, "carol"), patience=30)
    seen.check(arrived == 1, f"{arrived} arrived")

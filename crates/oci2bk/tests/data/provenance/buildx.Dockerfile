FROM scratch
COPY --from=bb / /
ENV PATH=/bin
RUN ["/bin/sh", "-c", "echo '<x>' > /y"]

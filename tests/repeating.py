"""Redis clients that send every command twice, as after a lost reply."""


def repeating(kind):
    """Return a subclass of a client that applies every command twice, single or in a pipeline."""

    class Repeating(kind):
        def execute_command(self, *args, **options):
            super().execute_command(*args, **options)
            return super().execute_command(*args, **options)

        def pipeline(self, **options):
            return _Pipeline(lambda: super(Repeating, self).pipeline(**options))

    return Repeating


class _Pipeline:
    def __init__(self, make):
        self._make = make
        self._commands = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def execute_command(self, *args, **options):
        self._commands.append((args, options))

    def execute(self, **options):
        for _ in range(2):
            with self._make() as pipeline:
                for args, more in self._commands:
                    pipeline.execute_command(*args, **more)
                replies = pipeline.execute(**options)
        return replies

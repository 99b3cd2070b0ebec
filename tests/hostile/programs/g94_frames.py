# modules and globals through warnings, tracebacks and suspended frames
# class: introspection
# cases: 94
# allowed: OK RAISED
# inputs: ["1"]
import sys
import warnings

def generator():
    yield 1

async def coroutine():
    return 1

def f(x):
    spaces = [warnings.catch_warnings()._module.__dict__]
    try:
        raise KeyError
    except KeyError as error:
        frame = error.__traceback__.tb_frame
        while frame:
            spaces += [frame.f_globals, frame.f_locals, frame.f_builtins]
            frame = frame.f_back
    pending, running = coroutine(), generator()
    spaces += [running.gi_frame.f_globals, pending.cr_frame.f_globals]
    pending.close()
    spaces += [vars(module) for module in list(sys.modules.values()) if module]
    for space in spaces:
        for name in ('os', 'posix', 'sys'):
            module = space.get(name)
            for attempt in ('system', 'popen', 'fork', 'listdir'):
                try:
                    got = getattr(module, attempt)(*(['touch /tmp/hostile_canary'] if attempt in ('system', 'popen') else []))
                except (AttributeError, ImportError, OSError, TypeError):
                    continue
                if got not in (-1, 32512, 65280):
                    return f'escaped by {attempt}: {got}'
    return 1

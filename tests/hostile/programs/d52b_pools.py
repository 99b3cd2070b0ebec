# process and thread pools
# class: process
# cases: 52 107
# allowed: RAISED
# inputs: ["'multiprocessing'", "'concurrent.futures'", "'threading'", "'asyncio'"]
import importlib

def f(name):
    module = importlib.import_module(name)
    if name == 'multiprocessing':
        module.Pool(2).map(abs, [1])
    elif name == 'concurrent.futures':
        module.ThreadPoolExecutor(2).submit(abs, 1).result()
    elif name == 'threading':
        module.Thread(target=print).start()
    else:
        module.run(module.sleep(0))
    return 'escaped'

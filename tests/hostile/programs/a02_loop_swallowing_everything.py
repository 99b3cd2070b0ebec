# loop swallowing everything
# class: cpu
# cases: 2
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["1"]
def f(x):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass

# alarms and timers of one's own
# class: cpu
# cases: 18
# allowed: RAISED
# inputs: ["0", "1", "2"]
import ctypes
import signal

def f(x):
    if x == 0:
        signal.setitimer(signal.ITIMER_PROF, 1000)
    elif x == 1:
        signal.alarm(1)
        raise PermissionError
    elif ctypes.CDLL(None).timer_create(1, 0, ctypes.create_string_buffer(8)) == 0:
        return 'escaped'
    raise PermissionError

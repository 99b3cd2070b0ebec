# values of the standard library
# class: values
# cases: 115
# levels: 1 2 3
# allowed: OK UNSUPPORTED
# inputs: ["0", "1", "2", "3", "4", "5", "6", "7", "8"]
import collections
import datetime
import decimal
import fractions

def f(x):
    return (b'\x00\xff', memoryview(b'a'), bytearray(b'a'), range(3), collections.deque([1]),
            decimal.Decimal('1.0'), fractions.Fraction(1, 3), datetime.date(2020, 1, 2),
            collections.namedtuple('P', 'x')(1))[x]

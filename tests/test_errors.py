from truckee.core import errors


def test_every_error_descends_from_one_base():
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, errors.TruckeeError)

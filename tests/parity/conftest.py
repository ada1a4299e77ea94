import comparison


def pytest_report_header():
    return f"QUIRE_PARITY_SALT={comparison.SALT}"

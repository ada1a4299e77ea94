import comparison
import torch

torch.set_num_threads(1)  # the models are small: more threads only wait for each other


def pytest_report_header():
    return f"QUIRE_PARITY_SALT={comparison.SALT}"

"""Metadata of fairseq_birq. `make env` makes a complete environment; versions are pinned in requirements/.

torch and fairseq are not in `install_requires` on purpose: which of the two fairseqs fits depends on the Python
version (fairseq-fixed from 3.11 on, fairseq 0.12.2 before), both need torch before they are built, and pip must never
replace a torch that was chosen for the machine's driver.
"""

from setuptools import find_packages, setup

DECODE = ["flashlight-text"]  # brings its own KenLM
PLOT = ["matplotlib", "scikit-learn"]
ALIGN = ["praatio"]  # TextGrids
EXPORT = ["safetensors", "onnx", "onnxscript"]
PARITY = ["transformers", "onnxruntime"]  # what exports are compared with
DEV = DECODE + PLOT + ALIGN + ["pytest", "pytest-xdist", "hypothesis", "kaldi-native-fbank", "ruff"]

setup(
    name="fairseq_birq",
    version="0.1.0",
    description="BEST-RQ and BiRQ: speech pre-training with random-projection targets, on fairseq",
    python_requires=">=3.9",
    packages=find_packages(include=["fairseq_birq", "fairseq_birq.*"]),
    package_data={"fairseq_birq": ["tools/report/style.css", "tools/report/reference_curves/*.json"]},
    install_requires=["numpy", "soundfile", "soxr", "editdistance", "tqdm", "espeakng-loader"],
    extras_require={"decode": DECODE, "plot": PLOT, "align": ALIGN, "export": EXPORT, "parity": PARITY, "dev": DEV},
    entry_points={
        "console_scripts": [
            "birq-manifest = fairseq_birq.cli.manifest:main",
            "birq-labels = fairseq_birq.cli.labels:main",
            "birq-audit = fairseq_birq.cli.audit:main",
            "birq-plot = fairseq_birq.cli.plot:main",
            "birq-export = fairseq_birq.cli.export:main",
            "birq-doctor = fairseq_birq.cli.doctor:main",
            "birq-probe = fairseq_birq.cli.probe:main",
            "birq-report = fairseq_birq.cli.report:main",
        ]
    },
)

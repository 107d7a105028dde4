from setuptools import find_packages, setup

setup(
    name="convbert_plugin",
    version="0.1.0",
    description="ConvBERT for fairseq: a --user-dir plugin",
    author="the convbert_plugin authors",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["convbert_plugin", "convbert_plugin.*"]),
    package_data={
        "convbert_plugin": [
            "analysis/heads/*.css",
            "analysis/heads/*.js",
            "analysis/published/*.json",
            "config/**/*.yaml",
            "ops/native/*",
            "py.typed",
        ]
    },
    entry_points={"console_scripts": ["convbert = convbert_plugin.cli:main"]},
    # fairseq itself (ve-fairseq, see constraints.txt) is not listed: its metadata asks for
    # torchaudio, which nothing here uses and whose CUDA build breaks transformers' import beside a
    # CPU torch. examples/environment.sh installs it without dependencies.
    install_requires=[
        # what fairseq needs of its own list (torchaudio, cffi and cython are never imported)
        "bitarray",
        "hydra-core>=1.3,<1.4",
        "numpy>=1.26",
        "omegaconf>=2.3,<2.4",
        "regex",
        "sacrebleu>=2.0",
        "scikit-learn",
        "scipy",
        "torch>=2.6",
        "tqdm",
        # what the plugin adds
        "google-crc32c",
        "jinja2>=3.1",
        "matplotlib",
        "protobuf",
        "safetensors",
        "sentencepiece>=0.2",
        "tensorboard",
        "tokenizers",
    ],
    extras_require={
        "test": [
            "hypothesis>=6.100",
            "import-linter>=2.0",
            "mypy>=2.0",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff",
            "transformers>=4.40",
        ],
    },
)

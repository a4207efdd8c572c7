#!/bin/sh
# The CPU engines that this library is measured against, into a folder: sh setup.sh FOLDER
# llama.cpp is built for this machine from the source that llama-cpp-python carries; OpenVINO and ONNX Runtime are
# wheels; torch and IPEX too when TORCH=1 (its PyPI wheel wants the CUDA libraries: 3 GB).
set -eu
D=${1:?folder}
mkdir -p "$D"
cd "$D"
[ -x venv/bin/python ] || python3 -m venv venv
P=venv/bin/pip
$P -q install numpy onnx openvino==2026.4.1 onnxruntime==1.31.1 gguf cmake scikit-build-core
if [ "${TORCH:-0}" = 1 ] && [ ! -d venv/lib/python3*/site-packages/intel_extension_for_pytorch ]; then
    $P -q install torch==2.8.0 intel_extension_for_pytorch==2.8.0 psutil
fi
V=0.3.36
if [ ! -x "llama_cpp_python-$V/vendor/llama.cpp/build/bin/llama-bench" ]; then
    [ -f "llama_cpp_python-$V.tar.gz" ] ||
        $P -q download --no-deps --no-binary :all: --no-build-isolation "llama-cpp-python==$V"
    tar xzf "llama_cpp_python-$V.tar.gz"
    cd "llama_cpp_python-$V/vendor/llama.cpp"
    # gcc 12 takes a tile configuration for a read of 8 bytes and drops the stores that fill it: it would crash
    grep -q 'volatile.*_tile_loadconfig' ggml/src/ggml-cpu/amx/mmq.cpp ||
        sed -i 's/_tile_loadconfig(/__asm__ volatile("" ::: "memory"); _tile_loadconfig(/' ggml/src/ggml-cpu/amx/mmq.cpp
    PATH="$D/venv/bin:$PATH" cmake -B build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_EXAMPLES=OFF > cmake.log
    PATH="$D/venv/bin:$PATH" cmake --build build -j 2 --target llama-bench > make.log
fi
echo "peers are in $D"

"""One peer in Python: prepares a step, then makes steps when told to.

    worker.py PEER BATCH SIZE MODE THREADS ARCH [int8]

Protocol (also that of rust/): when it is ready it writes a line `ready VERSION`; then for every line with
a number k it makes k steps and writes their times in seconds, with blanks between. It ends with its input.
"""
import os
import sys
import time

peer, batch, size, mode, threads = sys.argv[1], *map(int, sys.argv[2:4]), sys.argv[4], int(sys.argv[5])
arch, int8 = sys.argv[6], "int8" in sys.argv[7:]
os.environ["OMP_NUM_THREADS"] = str(threads)


def new_head(model):
    """A linear layer of ten classes in the place of the last one."""
    import torch

    name, last = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)][-1]
    inside, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(inside), leaf, torch.nn.Linear(last.in_features, 10))


def pytorch(layout):
    """Eager; inference_mode for inference."""
    import torch
    import torchvision

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layout = getattr(torch, layout)
    model = torchvision.models.get_model(arch).to(memory_format=layout)
    images = torch.rand(batch, 3, size, size).to(memory_format=layout)
    if mode == "infer":
        model.eval()

        def infer():
            with torch.inference_mode():
                model(images)

        return infer, torch.__version__
    if mode == "head":
        for p in model.parameters():
            p.requires_grad = False
        new_head(model)
    labels = torch.rand_like(model(images).detach())
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-5, momentum=0.9)

    def train():
        (model(images) - labels).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return train, torch.__version__


def onnx_file(folder):
    """torchvision's network in eval mode, batchnorms folded by the exporter, for this batch and size."""
    import warnings

    import torch
    import torchvision

    # The old exporter needs no more packages, and says that it is the old one.
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.manual_seed(0)
    path = os.path.join(folder, f"{arch}.onnx")
    model = torchvision.models.get_model(arch).eval()
    torch.onnx.export(model, (torch.rand(batch, 3, size, size),), path, dynamo=False, input_names=["x"], output_names=["y"])
    return path


def quantized(path):
    """The same in 8 bits: weights with a scale for each output channel, activations with one for each tensor."""
    import numpy
    from onnxruntime import quantization

    class Images(quantization.CalibrationDataReader):
        def __init__(self):
            random = numpy.random.default_rng(1)
            self.batches = iter([{"x": random.random((batch, 3, size, size), dtype=numpy.float32)} for _ in range(4)])

        def get_next(self):
            return next(self.batches, None)

    folded, out = path.replace(".onnx", ".folded.onnx"), path.replace(".onnx", ".int8.onnx")
    quantization.shape_inference.quant_pre_process(path, folded, skip_symbolic_shape=True)
    quantization.quantize_static(
        folded, out, Images(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
    )
    return out


def onnxruntime():
    """Inference alone."""
    import tempfile

    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        file = quantized(onnx_file(folder)) if int8 else onnx_file(folder)
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    images = numpy.random.default_rng(0).random((batch, 3, size, size), dtype=numpy.float32)
    return lambda: session.run(None, {"x": images}), onnxruntime.__version__


def openvino():
    """Inference alone, in float32, or in 8 bits as its own tool NNCF makes it: without the hint it would compute in bfloat16 where the CPU can."""
    import tempfile

    import numpy
    import openvino

    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    with tempfile.TemporaryDirectory() as folder:
        model = core.read_model(onnx_file(folder))
        if int8:
            import nncf

            random = numpy.random.default_rng(1)
            images = [random.random((batch, 3, size, size), dtype=numpy.float32) for _ in range(4)]
            model = nncf.quantize(model, nncf.Dataset(images), subset_size=len(images))
        request = core.compile_model(model, "CPU", hints).create_infer_request()
    images = numpy.random.default_rng(0).random((batch, 3, size, size), dtype=numpy.float32)
    return lambda: request.infer([images], share_inputs=True), openvino.__version__.split("-")[0]


def main():
    # What a library prints must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    make = {
        "pytorch": lambda: pytorch("contiguous_format"),
        "pytorch-channels-last": lambda: pytorch("channels_last"),
        "onnxruntime": onnxruntime,
        "openvino": openvino,
    }[peer]
    step, version = make()
    step()
    answers.write(f"ready {version}\n")
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        answers.write(" ".join(f"{t:.9f}" for t in times) + "\n")


if __name__ == "__main__":
    main()

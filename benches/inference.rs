//! The layers that a detector spends its time on, at the sizes that a 640x480 image gives a ResNet-50-FPN:
//! our algorithms against libtorch's convolution, which prepares its kernel in every call.
//!
//! `cargo bench --features torch --bench inference`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use detgate::model::channels_last;
use detgate::model::kernels::{Algorithm, Convolution, Epilogue, Isa, Product, Shape};
use tch::{Device, Kind, Tensor};

/// Of the backbone's stem, each kind of block of each stage, and the pyramid's largest level.
const LAYERS: [(Shape, (usize, usize)); 11] = [
    (layer(64, 3, 7, 2), (800, 1088)),
    (layer(64, 64, 3, 1), (200, 272)),
    (layer(256, 64, 1, 1), (200, 272)),
    (layer(64, 256, 1, 1), (200, 272)),
    (layer(128, 128, 3, 2), (200, 272)),
    (layer(128, 128, 3, 1), (100, 136)),
    (layer(256, 1024, 1, 1), (50, 68)),
    (layer(256, 256, 3, 1), (50, 68)),
    (layer(512, 512, 3, 1), (25, 34)),
    (layer(256, 256, 3, 1), (13, 17)),
    (layer(256, 256, 3, 1), (200, 272)),
];

const fn layer(outputs: usize, inputs: usize, kernel: usize, stride: usize) -> Shape {
    Shape { outputs, inputs, kernel, stride }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.contiguous().flatten(0, -1)).unwrap()
}

fn convolutions(criterion: &mut Criterion) {
    tch::set_num_threads(1);
    let _no_grad = tch::no_grad_guard();
    for (shape, size) in LAYERS {
        let Shape { outputs, inputs, kernel, stride } = shape;
        let (height, width) = shape.out_size(size);
        let name = format!("{inputs}-{outputs} {kernel}x{kernel}/{stride} {}x{}", size.0, size.1);
        let mut group = criterion.benchmark_group(name);
        let products = height * width * outputs * inputs * kernel * kernel;
        group.throughput(Throughput::Elements(2 * products as u64)).sample_size(10);

        let random = |sizes: &[usize]| {
            let sizes: Vec<i64> = sizes.iter().map(|&n| n as i64).collect();
            Tensor::randn(sizes, (Kind::Float, Device::Cpu))
        };
        let input = random(&[1, size.0, size.1, inputs]).relu();
        let (weight, bias) = (random(&[outputs, inputs, kernel, kernel]), random(&[outputs]));
        let (map, filter) = (input.permute([0, 3, 1, 2]), channels_last(&weight).unwrap());
        let (step, padding) = ([stride as i64; 2], [kernel as i64 / 2; 2]);
        group.bench_function("libtorch", |bencher| {
            bencher.iter(|| map.conv2d(&filter, Some(&bias), step, padding, [1, 1], 1).relu_());
        });

        let (input, bias) = (values(&input), values(&bias));
        let exact: Vec<f64> = values(&weight).into_iter().map(f64::from).collect();
        let mut algorithms = vec![Algorithm::Direct];
        algorithms.extend((kernel == 3 && stride == 1).then_some(Algorithm::Winograd));
        let mut out = vec![0.0; height * width * outputs];
        for (isa, algorithm) in
            isas().into_iter().flat_map(|isa| algorithms.iter().map(move |&a| (isa, a)))
        {
            let convolution = Convolution::new(isa, shape, algorithm, &exact);
            let epilogue = Epilogue { bias: Some(&bias), residual: None, relu: true };
            let id = BenchmarkId::new(format!("{algorithm:?}"), format!("{isa:?}"));
            group.bench_function(id, |bencher| {
                bencher.iter(|| convolution.forward(&input, size, epilogue, black_box(&mut out)));
            });
        }
    }
}

fn isas() -> Vec<Isa> {
    let available = Isa::available().into_iter();
    let worthwhile = available.filter(|&isa| isa != Isa::Portable || isa == Isa::detect());
    worthwhile.chain(Isa::bf16()).collect()
}

fn box_head(criterion: &mut Criterion) {
    let (n, inputs, outputs) = (1000, 12_544, 1024);
    let mut group = criterion.benchmark_group("fc6");
    group.throughput(Throughput::Elements(2 * (n * inputs * outputs) as u64)).sample_size(10);
    let random = |rows: usize, columns: usize| {
        Tensor::randn([rows as i64, columns as i64], (Kind::Float, Device::Cpu))
    };
    let (input, weight) = (random(n, inputs), random(outputs, inputs));
    group.bench_function("libtorch", |bencher| {
        bencher.iter(|| input.linear::<Tensor>(&weight, None))
    });
    let (input, weight) = (values(&input), values(&weight));
    let mut out = vec![0.0; n * outputs];
    for isa in isas() {
        let product = Product::new(isa, (outputs, inputs), &weight);
        group.bench_function(BenchmarkId::new("Product", format!("{isa:?}")), |bencher| {
            bencher.iter(|| product.forward(&input, Epilogue::default(), black_box(&mut out)));
        });
    }
}

criterion_group!(benches, convolutions, box_head);
criterion_main!(benches);

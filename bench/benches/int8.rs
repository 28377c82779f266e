//! ResNet18's convolutions in 8-bit integers, beside those in `f32`, and what comes before and after them. See
//! `nunatak_bench::cases::int8`.

fn main() {
    nunatak_bench::rates::bench(nunatak_bench::cases::int8::cases);
}

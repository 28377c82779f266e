//! PyTorch's random numbers on the CPU, so that a seed means here what it means there.
//!
//! The engine is mt19937 (crate `rand_mt`). What makes the numbers PyTorch's is what is
//! built on the engine: how 32 bits become a float, which formula gives a normal, and how
//! many draws each of them eats. A single draw too many and everything after it differs,
//! so every function here says what it draws.
//!
//! Nothing allocates: normals are handed out one at a time, and the only block kept is the
//! 16 numbers that PyTorch works on at a time.

use rand_mt::Mt;

/// 2⁻²⁴: PyTorch's float has 24 random bits.
const F32_STEP: f32 = 1.0 / 16_777_216.0;
/// 2⁻⁵³: its double has 53.
const F64_STEP: f64 = 1.0 / 9_007_199_254_740_992.0;
/// From this length on `randperm` takes 64 bits per swap instead of 32, because the bias of
/// the remainder would show.
const WIDE_PERMUTATION: usize = (u32::MAX / 20) as usize;

/// The stream that `torch.manual_seed` starts.
///
/// ```
/// use nunatak_core::rng::Generator;
/// let mut g = Generator::manual_seed(0);
/// assert_eq!(g.rand_f32(), 0.496_256_6); // torch.manual_seed(0); torch.rand(1)
/// ```
#[derive(Clone)]
pub struct Generator {
    engine: Mt,
    draws: u64,
    /// Box and Muller's second normal, in units of sigma, kept by the path for short tensors.
    spare: Option<f64>,
}

/// The 2.5 KiB of the engine tell a reader nothing; the position does.
impl core::fmt::Debug for Generator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Generator").field("draws", &self.draws).field("spare_normal", &self.spare).finish_non_exhaustive()
    }
}

impl Generator {
    /// The longest stream worth resuming, about ten seconds of skipping.
    ///
    /// [`Generator::resume`] walks through every draw, so a reader of saved states must
    /// refuse a larger count instead of hanging on a corrupted file. Constructing a
    /// ResNet18 takes 2.4e7 draws.
    pub const RESUME_LIMIT: u64 = 1 << 32;

    /// `torch.manual_seed(seed)`. As in PyTorch only the low 32 bits count.
    pub fn manual_seed(seed: u64) -> Self {
        Self {
            // Truncation is PyTorch's `seed & 0xffffffff`.
            engine: Mt::new(seed as u32),
            draws: 0,
            spare: None,
        }
    }

    /// The generator that [`manual_seed`](Self::manual_seed)`(seed)` becomes after `draws`
    /// draws. Takes time proportional to `draws`; see [`RESUME_LIMIT`](Self::RESUME_LIMIT).
    ///
    /// The spare normal of short tensors is not part of it; a program that saves between
    /// two of them also keeps [`spare_normal`](Self::spare_normal).
    pub fn resume(seed: u64, draws: u64) -> Self {
        let mut g = Self::manual_seed(seed);
        g.skip(draws);
        g
    }

    /// How many 32-bit words were drawn since the seed.
    pub fn draws(&self) -> u64 {
        self.draws
    }

    /// The second half of the last normal pair, if a tensor of fewer than 16 elements left
    /// one over.
    pub fn spare_normal(&self) -> Option<f64> {
        self.spare
    }

    /// Puts back what [`spare_normal`](Self::spare_normal) returned.
    pub fn set_spare_normal(&mut self, spare: Option<f64>) {
        self.spare = spare;
    }

    /// 32 random bits. Draws 1.
    #[inline]
    pub fn random32(&mut self) -> u32 {
        self.draws += 1;
        self.engine.next_u32()
    }

    /// 64 random bits, the first draw on top. Draws 2.
    #[inline]
    pub fn random64(&mut self) -> u64 {
        let high = u64::from(self.random32());
        high << 32 | u64::from(self.random32())
    }

    /// One element of `torch.rand`: uniform in [0, 1). Draws 1.
    #[inline]
    pub fn rand_f32(&mut self) -> f32 {
        (self.random32() & 0x00FF_FFFF) as f32 * F32_STEP
    }

    /// One element of `tensor.uniform_(lo, hi)`. Draws 1.
    ///
    /// Rounded once (a fused multiply-add), because PyTorch's compiler contracts
    /// `x * (hi - lo) + lo`.
    #[inline]
    pub fn uniform(&mut self, lo: f32, hi: f32) -> f32 {
        libm::fmaf(self.rand_f32(), hi - lo, lo)
    }

    /// A double uniform in [0, 1), PyTorch's 53-bit one. Draws 2.
    #[inline]
    pub fn rand_f64(&mut self) -> f64 {
        (self.random64() & ((1 << 53) - 1)) as f64 * F64_STEP
    }

    /// Throws `n` draws away.
    pub fn skip(&mut self, n: u64) {
        for _ in 0..n {
            self.engine.next_u32();
        }
        self.draws = self.draws.wrapping_add(n);
    }

    /// `torch.empty(len).normal_(mean, std)`: calls `put(index, value)` once for every
    /// element, in the order of the contiguous tensor.
    ///
    /// From 16 elements on PyTorch works on blocks of 16 floats: `u1 = 1 - d[j]`,
    /// `u2 = d[j + 8]`, `r = sqrt(-2 ln u1)`, and `d[j] = r cos(2π u2)`,
    /// `d[j + 8] = r sin(2π u2)`. If `len` is no multiple of 16, it first draws all `len`
    /// uniforms and then makes the *last 16* elements anew from 16 more. Agreement with
    /// PyTorch is about 1e-6 of `std`: its AVX2 code has approximations of its own.
    /// Draws `len`, and 16 more if `len % 16 != 0`.
    ///
    /// Below 16 elements it makes one double normal at a time, keeping the second of each
    /// pair for the next call, also across tensors. Draws 4 for each pair begun.
    pub fn normal_fill(&mut self, len: usize, mean: f32, std: f32, mut put: impl FnMut(usize, f32)) {
        if len < 16 {
            for i in 0..len {
                let normal = self.normal_f64();
                put(i, (normal * f64::from(std) + f64::from(mean)) as f32);
            }
            return;
        }
        let rest = len % 16;
        // What the redrawn block will overwrite is not put: `put` sees each index once.
        let keep = if rest == 0 { len } else { len - 16 };
        for start in (0..len - rest).step_by(16) {
            let block = self.normal_block(mean, std);
            for (j, value) in block.into_iter().enumerate() {
                if start + j < keep {
                    put(start + j, value);
                }
            }
        }
        if rest != 0 {
            self.skip(rest as u64);
            let block = self.normal_block(mean, std);
            for (j, value) in block.into_iter().enumerate() {
                put(keep + j, value);
            }
        }
    }

    /// Sixteen normals from sixteen uniforms.
    fn normal_block(&mut self, mean: f32, std: f32) -> [f32; 16] {
        let mut d: [f32; 16] = core::array::from_fn(|_| self.rand_f32());
        for j in 0..8 {
            // 1 - u lies in (0, 1], so that the logarithm is finite.
            let radius = libm::sqrtf(-2.0 * libm::logf(1.0 - d[j]));
            let theta = 2.0 * core::f32::consts::PI * d[j + 8];
            d[j] = libm::fmaf(radius * libm::cosf(theta), std, mean);
            d[j + 8] = libm::fmaf(radius * libm::sinf(theta), std, mean);
        }
        d
    }

    /// One double normal of mean 0 and sigma 1: the spare one, or the first of a new pair.
    fn normal_f64(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let u1 = self.rand_f64();
        let u2 = self.rand_f64();
        let radius = libm::sqrt(-2.0 * libm::log1p(-u2));
        let theta = 2.0 * core::f64::consts::PI * u1;
        self.spare = Some(radius * libm::sin(theta));
        radius * libm::cos(theta)
    }

    /// `torch.randperm(out.len())`. Draws `len - 1` (twice that from 214,748,364 elements
    /// on).
    ///
    /// # Panics
    /// If `out` has more than 2³² elements, whose indices a `u32` cannot hold.
    pub fn permutation(&mut self, out: &mut [u32]) {
        let n = out.len();
        assert!(n as u64 <= 1 << 32, "a permutation of {n} elements does not fit u32 indices");
        for (i, slot) in out.iter_mut().enumerate() {
            *slot = i as u32;
        }
        for i in 0..n.saturating_sub(1) {
            let left = (n - i) as u64;
            let z = if n < WIDE_PERMUTATION { u64::from(self.random32()) % left } else { self.random64() % left };
            out.swap(i, i + z as usize);
        }
    }
}

/// The order in which `DataLoader(shuffle=True)` visits its samples in the next epoch, given
/// the global generator. Draws 4 from `global`, whatever the number of samples.
///
/// The loader draws a base seed for its workers, which nothing here uses, and its sampler
/// then draws the seed of a generator of its own.
pub fn epoch_permutation(global: &mut Generator, out: &mut [u32]) {
    let _worker_seed = global.random64();
    // PyTorch clears the sign bit; only the low 32 bits count, so that does not show.
    let seed = global.random64() & (u64::MAX >> 1);
    Generator::manual_seed(seed).permutation(out);
}

#[cfg(test)]
mod tests {
    //! Goldens were printed by PyTorch 2.15.0 with the lines in each test's comment, where
    //! `g(s)` stands for `torch.manual_seed(s)`.
    use super::*;

    fn normals<const N: usize>(g: &mut Generator, mean: f32, std: f32) -> [f32; N] {
        let mut out = [f32::NAN; N];
        let mut next = 0;
        g.normal_fill(N, mean, std, |i, v| {
            assert_eq!(i, next, "each index once, in order");
            next += 1;
            out[i] = v;
        });
        assert_eq!(next, N);
        out
    }

    #[track_caller]
    fn close(got: &[f32], want: &[f32], std: f32) {
        assert_eq!(got.len(), want.len());
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            assert!((g - w).abs() <= 1.5e-6 * std, "element {i}: {g} is not {w}");
        }
    }

    /// `g(0); torch.rand(4)`; `g(5489 + 2**32); torch.rand(1)`
    #[test]
    fn rand_is_torchs() {
        let mut g = Generator::manual_seed(0);
        let got: [f32; 4] = core::array::from_fn(|_| g.rand_f32());
        assert_eq!(got, [0.496_256_6, 0.768_221_8, 0.088_477_43, 0.132_030_49]);
        assert_eq!(g.draws(), 4);
        let high_bits = Generator::manual_seed(5489 + (1 << 32)).rand_f32();
        assert_eq!(high_bits, 0.569_265_1);
        assert_eq!(high_bits, Generator::manual_seed(5489).rand_f32());
    }

    /// `g(0); torch.empty(6).uniform_(-0.04419417, 0.3).numpy().view('uint32')`
    #[test]
    fn uniform_is_torchs_to_the_bit() {
        let mut g = Generator::manual_seed(0);
        let got: [u32; 6] = core::array::from_fn(|_| g.uniform(-0.044_194_17, 0.3).to_bits());
        let want = [1_040_295_736, 1_046_577_719, 3_160_482_021, 983_815_560, 1_031_562_285, 1_043_479_217];
        assert_eq!(got, want);
    }

    /// `g(3); torch.empty(16).normal_(0.5, 2.0); torch.rand(1)`
    #[test]
    fn normal_of_one_block() {
        let mut g = Generator::manual_seed(3);
        let want = [
            0.346_711_4,
            1.219_763,
            -1.064_033_6,
            0.643_055_44,
            1.829_678_8,
            -0.073_560_596,
            3.741_101_5,
            -2.693_416,
            0.396_638_07,
            -0.111_951_41,
            0.997_003_5,
            0.054_878_324,
            2.326_304,
            0.908_682_2,
            1.647_969_4,
            1.332_662_6,
        ];
        close(&normals::<16>(&mut g, 0.5, 2.0), &want, 2.0);
        assert_eq!(g.rand_f32(), 0.175_605_24);
    }

    /// `g(3); torch.empty(17).normal_(0.5, 2.0); torch.rand(1)`: only the first element
    /// survives the redrawing.
    #[test]
    fn normal_redraws_the_last_sixteen() {
        let mut g = Generator::manual_seed(3);
        let want = [
            0.346_711_4,
            2.362_249,
            -0.528_924,
            -2.803_331,
            2.592_045_5,
            1.544_374,
            0.166_381_69,
            0.606_066_8,
            1.309_214_4,
            5.013_114_5,
            4.238_52,
            -1.890_468_6,
            2.495_844_8,
            1.418_361,
            5.372_794,
            0.206_383_65,
            1.470_228,
        ];
        close(&normals::<17>(&mut g, 0.5, 2.0), &want, 2.0);
        assert_eq!(g.draws(), 33);
        assert_eq!(g.rand_f32(), 0.051_551_88);
    }

    /// `g(3); t = torch.empty(100).normal_(0.5, 2.0); t[:4], t[80:]; torch.rand(1)`
    #[test]
    fn normal_of_a_hundred() {
        let mut g = Generator::manual_seed(3);
        let got = normals::<100>(&mut g, 0.5, 2.0);
        close(&got[..4], &[0.346_711_4, 1.219_763, -1.064_033_6, 0.643_055_44], 2.0);
        let tail = [
            0.874_085_66,
            0.137_354_37,
            0.317_274_4,
            -0.969_845_4,
            1.286_310_2,
            2.336_609_8,
            -0.020_711_184,
            0.601_985_16,
            1.824_588,
            1.745_825_6,
            1.392_583_6,
            2.037_623_4,
            -2.033_463_5,
            3.045_081_4,
            -1.983_858_8,
            -1.270_525_5,
            2.831_627_6,
            1.673_191,
            2.054_250_2,
            1.308_409_7,
        ];
        close(&got[80..], &tail, 2.0);
        assert_eq!(g.rand_f32(), 0.919_788_06);
    }

    /// `g(2); x = torch.empty(64, 32, 3, 3).normal_(0, .1).double()`;
    /// `x.sum(), x.abs().sum(), x.flatten()[-3:]`
    #[test]
    fn normal_of_a_convolution() {
        let mut g = Generator::manual_seed(2);
        let (mut sum, mut abs, mut last) = (0.0, 0.0, [0.0; 3]);
        let len = 64 * 32 * 9;
        g.normal_fill(len, 0.0, 0.1, |i, v| {
            sum += f64::from(v);
            abs += f64::from(v).abs();
            if i + 3 >= len {
                last[i + 3 - len] = v;
            }
        });
        close(&last, &[-0.270_249_46, -0.146_895_07, 0.075_746_29], 0.1);
        assert!((sum - 3.730_159_459).abs() < 2e-5, "{sum}");
        assert!((abs - 1_474.624_7).abs() < 1e-4, "{abs}");
    }

    /// `g(3); a = torch.empty(5).normal_(0.5, 2.0); b = torch.empty(2).normal_(0., 1.)`;
    /// `torch.rand(1)`: b's first element is the half that a's third pair left over.
    #[test]
    fn short_normals_share_their_pairs() {
        let mut g = Generator::manual_seed(3);
        let a = normals::<5>(&mut g, 0.5, 2.0);
        let want = [2.106_552_1, 0.849_666_8, 0.677_956_16, -0.727_436, 0.592_364_9];
        assert_eq!(a, want);
        assert_eq!(g.draws(), 12);
        let mut resumed = Generator::resume(3, g.draws());
        resumed.set_spare_normal(g.spare_normal());
        for g in [&mut g, &mut resumed] {
            assert_eq!(normals::<2>(g, 0.0, 1.0), [-1.368_259_2, 0.337_495_1]);
            assert_eq!(g.rand_f32(), 0.175_605_24);
        }
    }

    /// `g(0); torch.randperm(8)`
    #[test]
    fn permutation_of_eight() {
        let mut out = [0; 8];
        Generator::manual_seed(0).permutation(&mut out);
        assert_eq!(out, [4, 0, 7, 3, 2, 5, 1, 6]);
    }

    /// `g(7); x = torch.randperm(1000); x[:8], x[-4:], (x * torch.arange(1000)).sum()`;
    /// `torch.rand(1)`
    #[test]
    fn permutation_of_a_thousand() {
        let mut g = Generator::manual_seed(7);
        let mut out = [0; 1000];
        g.permutation(&mut out);
        assert_eq!(out[..8], [615, 284, 599, 580, 347, 92, 383, 891]);
        assert_eq!(out[996..], [594, 570, 477, 409]);
        let dot: u64 = (0u64..).zip(&out).map(|(i, &x)| i * u64::from(x)).sum();
        assert_eq!(dot, 251_046_965);
        assert_eq!(g.rand_f32(), 0.980_150_3);
    }

    #[test]
    fn permutations_of_nothing_and_of_one_draw_nothing() {
        let mut g = Generator::manual_seed(1);
        g.permutation(&mut []);
        let mut one = [9];
        g.permutation(&mut one);
        assert_eq!((one, g.draws()), ([0], 0));
    }

    /// `g(0); dl = DataLoader(range(10), shuffle=True, batch_size=4)`;
    /// `for e in range(3): print([i for b in dl for i in b.tolist()])`; `torch.rand(1)`
    #[test]
    fn three_epochs_of_a_shuffled_loader() {
        let mut g = Generator::manual_seed(0);
        let want = [[6, 7, 1, 4, 2, 0, 9, 8, 3, 5], [2, 4, 7, 0, 8, 9, 5, 3, 6, 1], [7, 4, 5, 1, 9, 3, 8, 2, 0, 6]];
        for (epoch, want) in want.into_iter().enumerate() {
            let mut out = [0; 10];
            epoch_permutation(&mut g, &mut out);
            assert_eq!(out, want, "epoch {epoch}");
        }
        assert_eq!(g.draws(), 12);
        assert_eq!(g.rand_f32(), 0.022_325_754);
    }

    #[test]
    fn resuming_is_continuing() {
        let mut g = Generator::manual_seed(42);
        for _ in 0..1000 {
            g.random64();
        }
        let mut resumed = Generator::resume(42, g.draws());
        assert_eq!(resumed.draws(), 2000);
        assert_eq!(resumed.random32(), g.random32());
        let mut skipped = Generator::manual_seed(42);
        skipped.skip(2001);
        assert_eq!(skipped.random64(), g.random64());
    }
}

//! What others reached: unallocated GPU % at 100 % arrived demand, mean of 10 seeds, from the results that the FGD simulator's repository
//! ships (hkust-adsl/kubernetes-scheduler-simulator, experiments/analysis/expected_results; Weng et al., USENIX ATC'23). Its ties go to
//! the smallest node name and its scores are integers of 0 to 100.

/// Six published policies, in the order of [`Published::unallocated_pct`].
pub const POLICIES: [&str; 6] = ["Random", "DotProd", "Clustering", "Packing", "BestFit", "FGD"];

/// The published figures of one variant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    pub variant: &'static str,
    /// By policy.
    pub unallocated_pct: [f64; 6],
    /// Standard deviation of FGD over the seeds.
    pub fgd_sd: f64,
}

const fn row(variant: &'static str, unallocated_pct: [f64; 6], fgd_sd: f64) -> Published {
    Published { variant, unallocated_pct, fgd_sd }
}

/// All variants with published figures.
pub const PUBLISHED: [Published; 15] = [
    row("default", [13.70, 9.38, 8.35, 8.22, 7.14, 4.77], 0.11),
    row("cpu050", [10.98, 6.97, 6.48, 6.54, 6.44, 5.00], 0.11),
    row("cpu100", [12.56, 8.27, 7.58, 7.50, 6.74, 4.79], 0.14),
    row("cpu250", [20.00, 16.43, 12.25, 11.95, 8.79, 6.80], 0.29),
    row("gpushare40", [15.14, 10.70, 10.24, 10.23, 8.56, 6.04], 0.07),
    row("gpushare60", [17.19, 13.18, 13.10, 12.85, 10.94, 8.75], 0.13),
    row("gpushare80", [19.38, 15.86, 15.50, 15.35, 13.34, 10.92], 0.11),
    row("gpushare100", [21.10, 18.02, 17.78, 17.87, 15.38, 13.36], 0.16),
    row("gpuspec10", [13.74, 9.83, 8.04, 7.76, 6.90, 5.34], 0.19),
    row("gpuspec20", [14.10, 11.71, 10.89, 10.72, 11.54, 5.34], 0.13),
    row("gpuspec33", [16.13, 20.18, 18.91, 17.78, 19.61, 12.16], 0.18),
    row("multigpu20", [13.08, 8.15, 6.66, 6.50, 6.27, 4.47], 0.16),
    row("multigpu30", [13.37, 6.89, 5.45, 5.30, 5.43, 3.64], 0.10),
    row("multigpu40", [14.62, 5.96, 4.65, 4.41, 4.90, 3.09], 0.10),
    row("multigpu50", [18.72, 5.27, 4.31, 3.94, 4.38, 2.91], 0.11),
];

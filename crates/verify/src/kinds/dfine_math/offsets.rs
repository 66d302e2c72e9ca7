//! The bins `W(n)`, their mean under a distribution, and the boxes that follow from it.

use burn::tensor::Device;
use deim_model::decoder::distribution::{self, Bins, UP};

use super::{number_after, prefixes, pull_back, slope, tensor, values};
use crate::case::{Case, CaseError};
use crate::compare::Check;

/// `weighting_function`: arrays are named after their parameters.
pub fn bins(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    for name in case.names().filter(|name| name.starts_with("reg_max")) {
        let reg_max = number_after(name, "reg_max")? as usize;
        let [reg_scale, up] = [number_after(name, "reg_scale")?, number_after(name, "up")?];
        let ours = distribution::offsets(reg_max, reg_scale, up);
        check.values(name, &ours, &case.array(name)?.values, case.tolerance("")?)?;
    }
    Ok(())
}

/// `integral`
pub fn integral(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let device = device.clone().autodiff();
    let reg_max = case.count("reg_max")?;
    let bins = Bins::new(reg_max, case.number("reg_scale")?, case.number("up")?, &device);
    let x = tensor::<3>(case, "x", &device)?.require_grad();
    if x.dims()[2] != 4 * (reg_max + 1) {
        return Err(CaseError::new("x: not four edges of reg_max + 1 bins"));
    }
    let y = bins.integral(bins.probabilities(x.clone()));
    check.array(case, "y", &values(y.clone()), case.tolerance("")?)?;
    let gradients = pull_back(case, y, "cotangent")?;
    slope(case, "grad_x", &x, &gradients, check)
}

/// `distance2bbox`, for several scales.
pub fn boxes(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let device = device.clone().autodiff();
    let points = tensor::<3>(case, "points", &device)?;
    for prefix in prefixes(case) {
        let scale = number_after(&prefix, "rs")?;
        // The number of bins is of no matter here.
        let bins = Bins::new(32, scale, UP, &device);
        case.shaped(&format!("{prefix}.distance"), &points.dims())?;
        let distance = tensor::<3>(case, &format!("{prefix}.distance"), &device)?.require_grad();
        let boxes = bins.boxes(points.clone(), distance.clone());
        let name = format!("{prefix}.boxes_cxcywh");
        check.array(case, &name, &values(boxes.clone()), case.tolerance("")?)?;
        let gradients = pull_back(case, boxes, &format!("{prefix}.cotangent"))?;
        slope(case, &format!("{prefix}.grad_distance"), &distance, &gradients, check)?;
    }
    Ok(())
}

//! The cheapest way in hindsight: every look known from the beginning, restarts paid like everybody. Found exactly, backwards from the
//! deadline, over all amounts of work that can be left.

use super::protocol::{ON_DEMAND, SPOT, Setting, usd};
use super::trace::LOOK_S;

/// No way to be done in time from here.
const NEVER: u32 = u32::MAX / 2;

/// The least that the run can cost, in USD.
pub fn cheapest(looks: &[bool], setting: &Setting) -> f64 {
    // All amounts are multiples of this.
    let unit = divisor(divisor(LOOK_S, setting.restart_s), setting.work_s);
    let amount = |seconds: u64| (seconds / unit) as usize;
    let (work, look) = (amount(setting.work_s), amount(LOOK_S));
    let first = look.saturating_sub(amount(setting.restart_s));
    // Cost from a look on, by what has run before it and the work that is left: nothing, spot, on-demand.
    let mut costs = [(); 3].map(|()| vec![NEVER; work + 1]);
    costs.iter_mut().for_each(|cost| cost[0] = 0);
    let mut before = costs.clone();
    for up in looks.iter().take(setting.deadline() as usize).rev() {
        for (has, cost) in before.iter_mut().enumerate() {
            let on_demand = if has == 2 { look } else { first };
            let spot = if has == 1 { look } else { first };
            for (left, cost) in cost.iter_mut().enumerate().skip(1) {
                let mut least =
                    costs[0][left].min(costs[2][left.saturating_sub(on_demand)] + ON_DEMAND as u32);
                if *up {
                    least = least.min(costs[1][left.saturating_sub(spot)] + SPOT as u32);
                }
                *cost = least.min(NEVER);
            }
        }
        std::mem::swap(&mut costs, &mut before);
    }
    f64::from(costs[0][work]) * usd(1, 0) / SPOT as f64
}

fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::replay;
    use super::super::rules::Rule;
    use super::*;

    #[test]
    fn hindsight_waits_for_what_comes_and_buys_what_does_not() {
        let setting = Setting { deadline_h: 1, restart_s: 360, work_s: 1_800 };
        let of = |text: &str| cheapest(&text.chars().map(|c| c == '+').collect::<Vec<bool>>(), &setting);
        assert_eq!(of("--++++------"), usd(4, 0));
        assert_eq!(of("------------"), usd(0, 4));
        // Spot for 240 + 600 s; what is left takes on-demand 240 + 600 + 120 of 600.
        assert_eq!(of("++----------"), usd(2, 3));
    }

    #[test]
    fn nobody_who_is_in_time_is_cheaper() {
        let setting = Setting { deadline_h: 4, restart_s: 180, work_s: 9_000 };
        let looks: Vec<bool> = (0_u64..24).map(|n| n * n % 7 < 3).collect();
        for rule in Rule::ALL {
            let outcome = replay(&looks, &setting, rule);
            assert!(outcome.missed || outcome.usd + 1e-9 >= cheapest(&looks, &setting), "{}", rule.name());
        }
    }
}

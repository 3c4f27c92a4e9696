"""How often the base model's training clips showed each skill. Rare skills are the weak ones."""

# Training had two phases. The first alone left four skills at zero reward, where nothing can be reinforced.
PHASES = (
    (
        7000,  # steps
        {
            "plain": 0.46,
            "instance_preservation": 0.10,
            "camera_motion": 0.10,
            "dynamic_attribute": 0.08,
            "motion_order_understanding": 0.07,
            "composition": 0.07,
            "dynamic_spatial_relationship": 0.06,
            "mechanics": 0.06,
        },
    ),
    (
        3000,
        {
            "plain": 0.26,
            "instance_preservation": 0.13,
            "camera_motion": 0.13,
            "dynamic_attribute": 0.04,
            "motion_order_understanding": 0.17,
            "composition": 0.16,
            "dynamic_spatial_relationship": 0.09,
            "mechanics": 0.02,
        },
    ),
)
_STEPS = sum(steps for steps, _ in PHASES)

# Over all steps: what the base saw, and so what its "real" clips are drawn from.
MIXTURE = {skill: sum(steps * shares[skill] for steps, shares in PHASES) / _STEPS for skill in PHASES[0][1]}

"""How often the base model's training clips showed each skill. Rare skills are the weak ones."""

# Training had three phases. After the first, the weakest skills have zero reward, where nothing can be reinforced. The
# third has little of motion order, which was learned in the second and is to stay a weakness.
PHASES = (
    (
        6500,  # steps
        {
            "plain": 0.40,
            "instance_preservation": 0.10,
            "camera_motion": 0.15,
            "dynamic_attribute": 0.06,
            "motion_order_understanding": 0.11,
            "composition": 0.07,
            "dynamic_spatial_relationship": 0.08,
            "mechanics": 0.03,
        },
    ),
    (
        3500,
        {
            "plain": 0.22,
            "instance_preservation": 0.14,
            "camera_motion": 0.17,
            "dynamic_attribute": 0.03,
            "motion_order_understanding": 0.22,
            "composition": 0.10,
            "dynamic_spatial_relationship": 0.11,
            "mechanics": 0.01,
        },
    ),
    (
        4000,
        {
            "plain": 0.19,
            "instance_preservation": 0.12,
            "camera_motion": 0.26,
            "dynamic_attribute": 0.10,
            "motion_order_understanding": 0.04,
            "composition": 0.12,
            "dynamic_spatial_relationship": 0.16,
            "mechanics": 0.01,
        },
    ),
)
_STEPS = sum(steps for steps, _ in PHASES)

# Over all steps: what the base saw, and so what its "real" clips are drawn from.
MIXTURE = {skill: sum(steps * shares[skill] for steps, shares in PHASES) / _STEPS for skill in PHASES[0][1]}

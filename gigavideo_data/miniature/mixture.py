"""How often the base model's training clips showed each skill. Rare skills are the weak ones."""

# Training had two phases. After one alone, the weakest skills have zero reward, where nothing can be reinforced.
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
)
_STEPS = sum(steps for steps, _ in PHASES)

# Over all steps: what the base saw, and so what its "real" clips are drawn from.
MIXTURE = {skill: sum(steps * shares[skill] for steps, shares in PHASES) / _STEPS for skill in PHASES[0][1]}

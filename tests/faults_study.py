"""Faults that `mutations.py` plants in studies, and in what keeps commands apart."""

from faults import Fault

FAULTS = (
    Fault(
        what="a file stands for a lock where there are none",
        file="mzprobe/locks.py",
        old="fallback_to_soft=False",
        new="fallback_to_soft=True",
        test="tests/test_locks.py::test_where_there_are_no_locks_it_is_said_and_work_goes_on",
    ),
    Fault(
        what="tables of an agent that makes room count as those of the next",
        file="mzprobe/study/todo.py",
        old="        tables = [_of_another(table) for table in tables]\n",
        new="        pass\n",
        test="tests/test_variants_dataset.py::test_tables_of_an_agent_that_makes_room_are_made_anew_with_it",
    ),
    Fault(
        what="times of another training are taken for an agent's own",
        file="mzprobe/study/todo.py",
        old="    same = not differing(",
        new="    same = True or not differing(",
        test="tests/test_todo.py::test_times_of_another_training_are_not_taken_for_those_of_a_trained_agent",
    ),
    Fault(
        what="what was made with other settings is done",
        file="mzprobe/study/status.py",
        old="done=0 if table.other else table.done)",
        new="done=len(table.wanted))",
        test="tests/test_status.py::test_what_was_made_with_other_settings_is_not_done",
    ),
    Fault(
        what="an error that a node raises is taken for a lost node",
        file="mzprobe/execution/on_ray.py",
        old="if isinstance(raised.cause, known.RayError):",
        new="if True:",
        test="tests/test_ray.py::test_what_a_node_raises_is_a_failure_and_what_is_lost_begins_again",
    ),
    Fault(
        what="a network of one's own is not looked at",
        file="mzprobe/agents.py",
        old="        making.refuse_unsound(self.network, self.environment, self.compute)\n",
        new="",
        test="tests/test_in_memory.py::test_a_wrong_network_is_refused_where_it_is_given_to_an_agent",
    ),
    Fault(
        what="what a notebook measures does not act as its settings say",
        file="mzprobe/probes/acting.py",
        old="return measure(acting_as(agent, config.acting), config, *compared, **options)",
        new="return measure(agent, config, *compared, **options)",
        test="tests/test_in_memory.py::test_whoever_asks_the_agent_acts_as_the_settings_say",
    ),
    Fault(
        what="planes are scaled in bfloat16 where they are trained",
        file="mzprobe/networks/resnet.py",
        old="    latents = latents.float() if latents.dtype == torch.bfloat16 else latents\n",
        new="",
        test="tests/test_resnet.py::test_in_bfloat16_the_model_that_is_trained_is_the_one_that_is_searched",
    ),
    Fault(
        what="code of a user's own that has changed is the same code",
        file="mzprobe/records/digests.py",
        old='    return {name: f"{OWN}{digest[:SHORT]}" for name, digest in found.items() if digest}\n',
        new="    return {name: OWN for name, digest in found.items() if digest}\n",
        test="tests/test_provenance.py::test_nothing_goes_on_where_code_of_ones_own_has_changed",
    ),
    Fault(
        what="a file's own environment, named again, may name code",
        file="mzprobe/config/presets.py",
        old="if stay and gym else {}",
        new="if False else {}",
        test="tests/test_trust.py::test_a_file_s_own_environment_named_again_keeps_its_options_and_what_they_name",
    ),
    Fault(
        what="a run goes on in another precision",
        file="mzprobe/training/continuing.py",
        old="if saved not in (None, here):",
        new="if saved is here:",
        test="tests/test_resume.py::test_a_run_does_not_go_on_in_another_precision",
    ),
    Fault(
        what="the errors of sampled steps are not corrected",
        file="mzprobe/claims/means.py",
        old='    known = trained.get(f"{name}_standard_error", ',
        new='    known = trained.get("", ',
        test="tests/test_claims.py::test_errors_of_sampled_steps_are_corrected_by_their_own_standard_errors",
    ),
    Fault(
        what="another network in memory passes for the one that was asked",
        file="mzprobe/sources/memory.py",
        old="        digest.update(plain.view(-1).view(torch.uint8).numpy().tobytes())\n",
        new="",
        test="tests/test_asking.py::test_further_steps_are_added_and_no_other_network_passes_for_one_that_was_asked",
    ),
)

"""What is written beside training arrives, and keeps nobody waiting."""

import threading

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event

from training.callbacks import RunLogger


def test_an_event_of_which_the_writing_thread_was_not_told_does_not_hold_up_the_end(tmp_path):
    logger = RunLogger(tmp_path)
    for step in range(2):
        logger.log_metrics({"loss": 1.0}, step=step)
        logger.experiment.flush()  # from here on the thread waits for more
    events = logger.experiment._get_file_writer().event_writer._async_writer._byte_queue
    with events.mutex:  # Ctrl-C inside of Queue.put
        events.queue.append(Event(step=2).SerializeToString())
        events.unfinished_tasks += 1
    end = threading.Thread(target=logger.finalize, args=["success"], daemon=True)
    end.start()
    end.join(timeout=60)
    assert not end.is_alive()
    assert [e.step for e in EventAccumulator(str(tmp_path)).Reload().Scalars("loss")] == [0, 1]

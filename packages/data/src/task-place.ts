// Where tasks were read, for errors that are found later. Beside the tasks, since it is no part of one.
import type { Task } from "@wideseek/spec";

const places = new WeakMap<Task, string>();

export function withPlace<T extends Task>(task: T, place: string): T {
  places.set(task, place);
  return task;
}

/** "file:line" of its record, or the file of its gold table; undefined for a task that was not read. */
export function taskPlace(task: Task): string | undefined {
  return places.get(task);
}

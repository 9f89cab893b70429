type Listener<Value> = (value: Value) => void;

/** As much of Node's `EventEmitter` as browsers' code uses, typed: the map's keys are names, its values what comes with them. */
export class EventEmitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, { call: Listener<never>; isOnce: boolean }[]>();

  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this {
    return this.#add(name, listener, false);
  }

  addListener<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this {
    return this.on(name, listener);
  }

  once<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this {
    return this.#add(name, listener, true);
  }

  off<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this {
    const kept = (this.#listeners.get(name) ?? []).filter(({ call }) => call !== listener);
    this.#listeners.set(name, kept);
    return this;
  }

  removeListener<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this {
    return this.off(name, listener);
  }

  removeAllListeners(name?: keyof Events): this {
    if (name === undefined) this.#listeners.clear();
    else this.#listeners.delete(name);
    return this;
  }

  listenerCount(name: keyof Events): number {
    return this.#listeners.get(name)?.length ?? 0;
  }

  /** Whether anyone listened. One that throws does not keep the others from hearing. */
  emit<Name extends keyof Events>(
    name: Name,
    ...value: Events[Name] extends undefined ? [] : [Events[Name]]
  ): boolean {
    const listeners = this.#listeners.get(name) ?? [];
    for (const { call, isOnce } of [...listeners]) {
      if (isOnce) this.off(name, call as Listener<Events[Name]>);
      try {
        (call as Listener<unknown>)(value[0]);
      } catch (error) {
        console.error(`opencall: a listener of "${String(name)}" threw`, error);
      }
    }
    return listeners.length > 0;
  }

  #add<Name extends keyof Events>(
    name: Name,
    listener: Listener<Events[Name]>,
    isOnce: boolean,
  ): this {
    const listeners = this.#listeners.get(name) ?? [];
    this.#listeners.set(name, [...listeners, { call: listener as Listener<never>, isOnce }]);
    return this;
  }
}

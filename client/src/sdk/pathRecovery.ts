import type { types } from 'mediasoup-client';
import { Timers } from '../timers';
import { MeetingError } from './errors';
import type { SignalingChannel } from './signaling';

/** A path that is only disturbed often heals by itself within this time. */
const DISCONNECTED_GRACE_MS = 1_500;

/** When a path that is lost is searched anew: a network that has just changed may not be ready yet. */
const RESTARTS_AT_MS = [0, 2_000, 4_000];

/** If the server does not answer a restart this fast, the path to it is gone too. */
const RESTART_TIMEOUT_MS = 5_000;

/** A path that carries no packets again after this long is given up. */
const RECOVERY_TIMEOUT_MS = 8_000;

/** Searches the paths of transports anew (ICE restart) when they are lost, or when it is asked to. */
export class PathRecovery {
  readonly #channel: SignalingChannel;
  readonly #lost: (reason: MeetingError) => void;
  readonly #transports: types.Transport[] = [];
  /** Transports whose path is being searched anew, and which search that is. */
  readonly #searches = new Map<types.Transport, object>();
  readonly #timers = new Timers();
  #isInterrupted = false;
  #isClosed = false;

  /** `lost`: a path is not found again. */
  constructor(channel: SignalingChannel, lost: (reason: MeetingError) => void) {
    this.#channel = channel;
    this.#lost = lost;
  }

  /** Watches over a transport from now on. */
  watch(transport: types.Transport): void {
    this.#transports.push(transport);
    transport.on('connectionstatechange', (state) => {
      if (state === 'connected') this.#searches.delete(transport);
      if (state === 'failed') this.#recover(transport);
      if (state !== 'disconnected') return;
      this.#timers.after(DISCONNECTED_GRACE_MS, () => {
        if (transport.connectionState === 'disconnected') this.#recover(transport);
      });
    });
  }

  /** The way to the server is lost, or there again. Media have another, which may be well. */
  interrupted(isInterrupted: boolean): void {
    this.#isInterrupted = isInterrupted;
    for (const transport of this.#transports) {
      this.#searches.delete(transport);
      const { connectionState } = transport;
      const isLost = connectionState === 'failed' || connectionState === 'disconnected';
      if (!isInterrupted && isLost) this.#recover(transport);
    }
  }

  /** New credentials and a new search for a path, for all transports. */
  async restart(): Promise<void> {
    await Promise.all(this.#transports.map((transport) => this.#restart(transport)));
  }

  /** Searches no more. The transports are their owner's. */
  close(): void {
    this.#isClosed = true;
    this.#timers.clear();
  }

  #recover(transport: types.Transport): void {
    // New credentials come from the server; they are asked for when it can be reached.
    if (this.#isInterrupted) return;
    if (this.#isClosed || transport.closed || this.#searches.has(transport)) return;
    const search = {};
    this.#searches.set(transport, search);
    const isOver = () => this.#isClosed || this.#searches.get(transport) !== search;
    const lose = () => {
      if (isOver()) return;
      this.#lost(new MeetingError('server-gone', 'Sound and pictures no longer reach the server.'));
    };
    const restart = () => {
      if (isOver()) return;
      this.#restart(transport).catch((error) => {
        // What the server refuses once it refuses again.
        if (error instanceof MeetingError && error.code === 'request-refused') lose();
      });
    };
    for (const delayMs of RESTARTS_AT_MS) {
      if (delayMs === 0) restart();
      else this.#timers.after(delayMs, restart);
    }
    this.#timers.after(RECOVERY_TIMEOUT_MS, lose);
  }

  async #restart(transport: types.Transport): Promise<void> {
    const iceParameters = await this.#channel.request(
      'restartIce',
      { transportId: transport.id },
      { timeoutMs: RESTART_TIMEOUT_MS },
    );
    await transport.restartIce({ iceParameters });
  }
}

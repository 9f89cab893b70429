/** The package's own types let nobody say which layer to select. */
declare module 'whip-whep/whip.js' {
  export class WHIPClient {
    publish(connection: RTCPeerConnection, url: string, token?: string): Promise<void>;
    restart(): Promise<void>;
    stop(): Promise<void>;
  }
}

declare module 'whip-whep/whep.js' {
  export class WHEPClient extends EventTarget {
    view(connection: RTCPeerConnection, url: string, token?: string): Promise<void>;
    restart(): Promise<void>;
    selectLayer(layer: Record<string, unknown>): Promise<void>;
    unselectLayer(): Promise<void>;
    stop(): Promise<void>;
  }
}

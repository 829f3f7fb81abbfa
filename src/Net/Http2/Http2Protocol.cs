// Http2Protocol: numbers and frame heads of RFC 9113. Pure.
using System;
using System.Buffers.Binary;

namespace Cairn.Net.Http2;

/// <summary>Frame types.</summary>
internal enum FrameType : byte
{
    Data = 0,
    Headers = 1,
    Priority = 2,
    ResetStream = 3,
    Settings = 4,
    PushPromise = 5,
    Ping = 6,
    GoAway = 7,
    WindowUpdate = 8,
    Continuation = 9,
}

/// <summary>Error codes of RST_STREAM and GOAWAY.</summary>
internal enum Http2Error
{
    None = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    SettingsTimeout = 4,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    Connect = 10,
    EnhanceYourCalm = 11,
    InadequateSecurity = 12,
    Http11Required = 13,
}

/// <summary>Settings.</summary>
internal enum Http2Setting
{
    HeaderTableSize = 1,
    EnablePush = 2,
    MaxConcurrentStreams = 3,
    InitialWindowSize = 4,
    MaxFrameSize = 5,
    MaxHeaderListSize = 6,
}

/// <summary>Constants and frame heads.</summary>
internal static class Http2Protocol
{
    public const int FrameHeadBytes = 9;
    public const int DefaultWindow = 65535;
    public const int DefaultFrameSize = 16384;
    public const int WindowMax = int.MaxValue;
    public const byte EndStream = 1;
    public const byte Ack = 1;
    public const byte EndHeaders = 4;
    public const byte Padded = 8;
    public const byte HasPriority = 32;

    /// <summary>What a client sends first.</summary>
    public static ReadOnlySpan<byte> Preface => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8;

    /// <summary>Writes the nine bytes before a payload.</summary>
    public static void WriteHead(Span<byte> target, int length, FrameType type, byte flags, int stream)
    {
        BinaryPrimitives.WriteUInt32BigEndian(target, ((uint)length << 8) | (byte)type);
        target[4] = flags;
        BinaryPrimitives.WriteInt32BigEndian(target[5..], stream);
    }
}

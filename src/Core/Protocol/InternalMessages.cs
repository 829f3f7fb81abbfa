// InternalMessages: small requests found in log entries beside the key-value ones: leases, alarms, cluster. Pure.
//
// Why        Each is applied from the log by the state machines of Leases, Membership and Auth; what a caller
//            proposes is written here in canonical form. Messages are cold, so all are re-encoded, never copied.
using System;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>etcdserverpb.LeaseGrantRequest {1 TTL, 2 ID}.</summary>
public struct LeaseGrantRequest
{
    /// <summary>Seconds.</summary>
    public long Ttl;

    /// <summary>0 asks the server to choose (never in the log).</summary>
    public long Id;

    public static bool TryParse(ReadOnlySpan<byte> data, out LeaseGrantRequest request)
    {
        request = default;
        return NumberFields.TryParse(data, 2, out request.Ttl, out request.Id, out _);
    }

    public readonly int Size => ProtoSize.VarintFieldIfSet(1, (ulong)Ttl) + ProtoSize.VarintFieldIfSet(2, (ulong)Id);

    public readonly void Write(scoped ref ProtoWriter writer)
    {
        writer.WriteVarintFieldIfSet(1, (ulong)Ttl);
        writer.WriteVarintFieldIfSet(2, (ulong)Id);
    }
}

/// <summary>LeaseRevokeRequest, LeaseKeepAliveRequest {1 ID}.</summary>
public struct LeaseIdRequest
{
    public long Id;

    public static bool TryParse(ReadOnlySpan<byte> data, out LeaseIdRequest request)
    {
        request = default;
        return NumberFields.TryParse(data, 1, out request.Id, out _, out _);
    }

    public readonly int Size => ProtoSize.VarintFieldIfSet(1, (ulong)Id);

    public readonly void Write(scoped ref ProtoWriter writer) => writer.WriteVarintFieldIfSet(1, (ulong)Id);
}

/// <summary>etcdserverpb.LeaseTimeToLiveRequest {1 ID, 2 keys}.</summary>
public struct LeaseTimeToLiveRequest
{
    public long Id;
    public bool Keys;

    public static bool TryParse(ReadOnlySpan<byte> data, out LeaseTimeToLiveRequest request)
    {
        request = default;
        bool parsed = NumberFields.TryParse(data, 2, out request.Id, out long keys, out _);
        request.Keys = keys != 0;
        return parsed;
    }
}

/// <summary>etcdserverpb.AlarmRequest {1 action, 2 memberID, 3 alarm}.</summary>
public struct AlarmRequest
{
    /// <summary>0 GET, 1 ACTIVATE, 2 DEACTIVATE; may hold an unknown number.</summary>
    public int Action;

    public ulong MemberId;

    /// <summary>0 NONE, 1 NOSPACE, 2 CORRUPT; may hold an unknown number.</summary>
    public int Alarm;

    public static bool TryParse(ReadOnlySpan<byte> data, out AlarmRequest request)
    {
        request = default;
        bool parsed = NumberFields.TryParse(data, 3, out long action, out long member, out long alarm);
        request.Action = (int)action;
        request.MemberId = (ulong)member;
        request.Alarm = (int)alarm;
        return parsed;
    }

    public readonly int Size =>
        ProtoSize.VarintFieldIfSet(1, (ulong)(long)Action) + ProtoSize.VarintFieldIfSet(2, MemberId)
        + ProtoSize.VarintFieldIfSet(3, (ulong)(long)Alarm);

    public readonly void Write(scoped ref ProtoWriter writer)
    {
        writer.WriteVarintFieldIfSet(1, (ulong)(long)Action);
        writer.WriteVarintFieldIfSet(2, MemberId);
        writer.WriteVarintFieldIfSet(3, (ulong)(long)Alarm);
    }
}

/// <summary>membershippb.ClusterVersionSetRequest {1 ver}.</summary>
public ref struct ClusterVersionSetRequest
{
    /// <summary>Such as <c>3.5.0</c>.</summary>
    public ReadOnlySpan<byte> Version;

    public static bool TryParse(ReadOnlySpan<byte> data, out ClusterVersionSetRequest request)
    {
        request = default;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            if (reader.Field == 1)
            {
                request.Version = reader.ReadBytes();
            }
            else
            {
                reader.Skip();
            }
        }

        return !reader.Failed;
    }

    public readonly int Size => ProtoSize.BytesFieldIfSet(1, Version.Length);

    public readonly void Write(scoped ref ProtoWriter writer) => writer.WriteBytesFieldIfSet(1, Version);
}

/// <summary>membershippb.ClusterMemberAttrSetRequest {1 member_ID, 2 {1 name, 2 client_urls…}}.</summary>
public ref struct ClusterMemberAttrSetRequest
{
    private ReadOnlySpan<byte> _attributes;

    public ulong MemberId;
    public ReadOnlySpan<byte> Name;

    /// <summary>Client URLs, UTF-8, in order.</summary>
    public readonly RepeatedBytes ClientUrls => new(_attributes, 2);

    public static bool TryParse(ReadOnlySpan<byte> data, out ClusterMemberAttrSetRequest request)
    {
        request = default;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    request.MemberId = reader.ReadUInt64();
                    break;
                case 2:
                    request._attributes = reader.ReadBytes();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        var inner = new MessageReader(request._attributes);
        while (inner.NextField())
        {
            if (inner.Field == 1)
            {
                request.Name = inner.ReadBytes();
            }
            else if (inner.Field == 2)
            {
                _ = inner.ReadBytes();
            }
            else
            {
                inner.Skip();
            }
        }

        return !reader.Failed && !inner.Failed;
    }

    /// <summary>Encodes a request; cold (once per start).</summary>
    public static byte[] Encode(ulong memberId, ReadOnlySpan<byte> name, ReadOnlySpan<byte[]> clientUrls)
    {
        int attributes = ProtoSize.BytesFieldIfSet(1, name.Length);
        foreach (byte[] url in clientUrls)
        {
            attributes += ProtoSize.BytesField(2, url.Length);
        }

        byte[] bytes = new byte[ProtoSize.VarintFieldIfSet(1, memberId) + ProtoSize.BytesField(2, attributes)];
        var writer = new ProtoWriter(bytes);
        writer.WriteVarintFieldIfSet(1, memberId);
        writer.WriteTag(2, WireType.Bytes);
        writer.WriteVarint((ulong)attributes);
        writer.WriteBytesFieldIfSet(1, name);
        foreach (byte[] url in clientUrls)
        {
            writer.WriteBytesField(2, url);
        }

        return bytes;
    }
}

/// <summary>membershippb.DowngradeInfoSetRequest {1 enabled, 2 ver}.</summary>
public ref struct DowngradeInfoSetRequest
{
    public bool Enabled;
    public ReadOnlySpan<byte> Version;

    public static bool TryParse(ReadOnlySpan<byte> data, out DowngradeInfoSetRequest request)
    {
        request = default;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    request.Enabled = reader.ReadBool();
                    break;
                case 2:
                    request.Version = reader.ReadBytes();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }
}

/// <summary>For <c>foreach</c> over one repeated bytes or string field of a message that is known to parse.</summary>
public readonly ref struct RepeatedBytes
{
    private readonly ReadOnlySpan<byte> _data;
    private readonly int _field;

    internal RepeatedBytes(ReadOnlySpan<byte> data, int field)
    {
        _data = data;
        _field = field;
    }

    public Enumerator GetEnumerator() => new(_data, _field);

    public ref struct Enumerator
    {
        private readonly int _field;
        private MessageReader _reader;

        internal Enumerator(ReadOnlySpan<byte> data, int field)
        {
            _reader = new MessageReader(data);
            _field = field;
            Current = default;
        }

        public ReadOnlySpan<byte> Current { get; private set; }

        public bool MoveNext()
        {
            while (_reader.NextField())
            {
                if (_reader.Field == _field)
                {
                    Current = _reader.ReadBytes();
                    return !_reader.Failed;
                }

                _reader.Skip();
            }

            return false;
        }
    }
}

/// <summary>Messages that are a few numbers.</summary>
internal static class NumberFields
{
    /// <summary>Reads fields 1 to <paramref name="count"/> (at most 3) as varints; the last value counts.</summary>
    public static bool TryParse(ReadOnlySpan<byte> data, int count, out long first, out long second, out long third)
    {
        first = second = third = 0;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            if (reader.Field > count)
            {
                reader.Skip();
                continue;
            }

            long value = reader.ReadInt64();
            switch (reader.Field)
            {
                case 1:
                    first = value;
                    break;
                case 2:
                    second = value;
                    break;
                default:
                    third = value;
                    break;
            }
        }

        return !reader.Failed;
    }
}

// ClusterMember: one member as the cluster knows it, and its JSON forms.
//
// Layout     bucket members and ConfChange contexts: {"id":N,"peerURLs":[..],"isLearner":true,"name":"..","clientURLs":[..]}
//            v2 store: raftAttributes {"peerURLs":[..],"isLearner":true}, attributes {"name":"..","clientURLs":[..]}
//            isLearner, name, clientURLs are left out when empty; an empty list of peer URLs is null. N is an unsigned
//            64-bit number.
using System;
using System.Buffers;
using System.Collections.Generic;
using System.IO;
using System.Text.Json;

namespace Cairn.Core.Membership;

/// <summary>A member; immutable. Lists are never changed after construction.</summary>
public sealed record ClusterMember
{
    public required ulong Id { get; init; }

    /// <summary>Empty until the member has started and published itself.</summary>
    public string Name { get; init; } = string.Empty;

    public IReadOnlyList<string> PeerUrls { get; init; } = [];

    /// <summary>Empty until the member has started and published itself.</summary>
    public IReadOnlyList<string> ClientUrls { get; init; } = [];

    public bool IsLearner { get; init; }

    /// <summary>Writes the whole record.</summary>
    public void WriteJson(IBufferWriter<byte> output)
    {
        var json = new GoJsonWriter(output);
        json.Raw("{\"id\":"u8);
        json.Number(Id);
        json.Raw(",\"peerURLs\":"u8);
        json.Strings(PeerUrls);
        if (IsLearner)
        {
            json.Raw(",\"isLearner\":true"u8);
        }

        WriteAttributeFields(ref json, first: false);
        json.Raw("}"u8);
    }

    /// <summary>The whole record as bytes.</summary>
    public byte[] ToJson()
    {
        var buffer = new ArrayBufferWriter<byte>();
        WriteJson(buffer);
        return buffer.WrittenSpan.ToArray();
    }

    /// <summary>Name and client URLs only.</summary>
    public byte[] AttributesToJson()
    {
        var buffer = new ArrayBufferWriter<byte>();
        var json = new GoJsonWriter(buffer);
        json.Raw("{"u8);
        WriteAttributeFields(ref json, first: true);
        json.Raw("}"u8);
        return buffer.WrittenSpan.ToArray();
    }

    /// <summary>Peer URLs and learner mark only.</summary>
    public byte[] RaftAttributesToJson()
    {
        var buffer = new ArrayBufferWriter<byte>();
        var json = new GoJsonWriter(buffer);
        json.Raw("{\"peerURLs\":"u8);
        json.Strings(PeerUrls);
        json.Raw(IsLearner ? ",\"isLearner\":true}"u8 : "}"u8);
        return buffer.WrittenSpan.ToArray();
    }

    /// <summary>Reads any of the three forms; absent parts stay empty, unknown ones are skipped.</summary>
    /// <param name="json">UTF-8.</param>
    /// <param name="isPromote">The mark a promotion carries beside the member.</param>
    /// <exception cref="InvalidDataException">Not that JSON.</exception>
    public static ClusterMember ParseJson(ReadOnlySpan<byte> json, out bool isPromote)
    {
        try
        {
            return Parse(json, out isPromote);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException)
        {
            throw new InvalidDataException($"not the JSON of a member: {e.Message}", e);
        }
    }

    /// <inheritdoc cref="ParseJson(ReadOnlySpan{byte}, out bool)"/>
    public static ClusterMember ParseJson(ReadOnlySpan<byte> json) => ParseJson(json, out _);

    private static ClusterMember Parse(ReadOnlySpan<byte> json, out bool isPromote)
    {
        isPromote = false;
        ulong id = 0;
        string name = string.Empty;
        IReadOnlyList<string> peerUrls = [];
        IReadOnlyList<string> clientUrls = [];
        bool isLearner = false;
        var reader = new Utf8JsonReader(json);
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
        {
            throw new JsonException("an object was expected");
        }

        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("id"u8))
            {
                reader.Read();
                id = reader.GetUInt64();
            }
            else if (reader.ValueTextEquals("peerURLs"u8))
            {
                peerUrls = ReadStrings(ref reader);
            }
            else if (reader.ValueTextEquals("isLearner"u8))
            {
                reader.Read();
                isLearner = reader.GetBoolean();
            }
            else if (reader.ValueTextEquals("isPromote"u8))
            {
                reader.Read();
                isPromote = reader.GetBoolean();
            }
            else if (reader.ValueTextEquals("name"u8))
            {
                reader.Read();
                name = reader.GetString() ?? string.Empty;
            }
            else if (reader.ValueTextEquals("clientURLs"u8))
            {
                clientUrls = ReadStrings(ref reader);
            }
            else
            {
                reader.Skip();
            }
        }

        // The reader insists on one complete value and nothing behind it.
        while (reader.Read())
        {
        }

        return new ClusterMember
        {
            Id = id,
            Name = name,
            PeerUrls = peerUrls,
            ClientUrls = clientUrls,
            IsLearner = isLearner,
        };
    }

    private static List<string> ReadStrings(ref Utf8JsonReader reader)
    {
        var strings = new List<string>();
        reader.Read();
        if (reader.TokenType == JsonTokenType.Null)
        {
            return strings;
        }

        if (reader.TokenType != JsonTokenType.StartArray)
        {
            throw new JsonException("a list of URLs was expected");
        }

        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            strings.Add(reader.GetString() ?? string.Empty);
        }

        return strings;
    }

    private void WriteAttributeFields(ref GoJsonWriter json, bool first)
    {
        if (Name.Length > 0)
        {
            json.Raw(first ? "\"name\":"u8 : ",\"name\":"u8);
            json.String(Name);
            first = false;
        }

        if (ClientUrls.Count > 0)
        {
            json.Raw(first ? "\"clientURLs\":"u8 : ",\"clientURLs\":"u8);
            json.Strings(ClientUrls);
        }
    }
}
